"""A headless Chromium of the system for tests, and what its pages may not do."""

import os
import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
REASON = (
    "needs playwright and axe-playwright-python: pip install -r requirements-dev.txt"
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None
    else "needs a browser: apt-get install chromium"
    if BROWSER is None
    else ""
)
# CI sets this where it has a browser, so that no test is left out unseen.
needs_browser = pytest.mark.skipif(bool(REASON) and os.environ.get("BROWSER_TESTS") != "required", reason=REASON)


class Pages:
    """Opens files in one browser; each page is alone, and everything that it does wrong is an error.

    Wrong are messages of the console that warn or fail, errors of scripts, dialogs, and requests for anything but the
    file itself and data within it.
    """

    def __init__(self, browser):
        self._browser = browser

    @contextmanager
    def open(self, path: Path, width: int = 1280, height: int = 900, **options):
        """Open a file; options: of `Browser.new_context`."""
        context = self._browser.new_context(viewport={"width": width, "height": height}, **options)
        faults, requests = [], []
        context.on("request", lambda request: requests.append(request.url))
        context.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        context.on("weberror", lambda error: faults.append(f"script: {error.error}"))
        context.on("console", lambda m: faults.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
        try:
            page = context.new_page()
            page.set_default_timeout(30_000)
            page.goto(path.as_uri(), wait_until="load")
            yield page
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
            outside = [url for url in requests if url != path.as_uri() and not url.startswith("data:")]
            assert path.as_uri() in requests
            assert not outside, outside
            assert not faults, faults
        finally:
            context.close()


@contextmanager
def open_browser():
    """Start the system's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--font-render-hinting=none"])
        try:
            yield Pages(browser)
        finally:
            browser.close()
