"""Reports in a real browser: nothing fails, nothing is loaded, everything is drawn, named and reachable by keyboard."""

import json
import re
from importlib.resources import files

import pytest

from data_prep.prepare import prepare_synthetic
from gil_jax.evaluation.measures import headline
from gil_jax.evaluation.store import load_embeddings, save_embeddings
from gil_jax.report import make_report
from tests.browser import needs_browser, open_browser
from tests.report_copies import HOSTILE, HOSTILE_FOLDER, copy_renamed, evaluate_again, give_silhouettes
from tests.report_workdirs import make_workdir
from tests.tiny_config import get_config

pytestmark = needs_browser

# Texts with the lowest contrast between them and what they stand on, by WCAG 2.2, 1.4.3.
CONTRASTS = """() => {
  const parse = (text) => {
    const numbers = text.match(/[\\d.]+/g).map(Number);
    return numbers.length < 4 ? [...numbers.slice(0, 3), 1] : numbers;
  };
  const light = (rgb) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const isText = !["SCRIPT", "STYLE", "TITLE"].includes(element.tagName.toUpperCase());
    if (!isText || !walker.currentNode.data.trim()) continue;
    if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const style = getComputedStyle(element);
    const ink = light(parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color));
    const paper = light(behind(element));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    found.push([ratio, walker.currentNode.data.trim().slice(0, 60)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""

# Pictures and drawings that are shown but empty, and texts of drawings that stick out of their figure.
BROKEN = """() => {
  const broken = [];
  const shown = (e) => e.checkVisibility();
  for (const e of [...document.images].filter(shown))
    if (!e.complete || !e.naturalWidth) broken.push("picture: " + e.outerHTML.slice(0, 90));
  for (const e of [...document.querySelectorAll("svg")].filter(shown)) {
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height) broken.push("drawing: " + e.outerHTML.slice(0, 90));
    const figure = e.closest("figure");
    if (!figure) continue;
    const limits = figure.getBoundingClientRect();
    for (const text of e.querySelectorAll("text")) {
      const { left, right, top, bottom } = text.getBoundingClientRect();
      if (left < limits.left - 1 || right > limits.right + 1 || top < limits.top - 1 || bottom > limits.bottom + 1)
        broken.push("text outside: " + text.textContent);
    }
  }
  return broken;
}"""

TABLES = """() => [...document.querySelectorAll("table")].map((table) => ({
  section: table.closest("section").id,
  caption: table.caption.textContent,
  rows: [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent.trim())),
}))"""


@pytest.fixture(scope="module")
def browser():
    with open_browser() as pages:
        yield pages


@pytest.fixture(scope="module")
def report_workdir(records, tmp_path_factory):
    """A workdir of drawn embeddings of three people whose silhouettes are there. Nobody writes into it."""
    config = get_config()
    folder = prepare_synthetic(config.synthetic.to_dict(), str(records), config.data.height)
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    make_workdir(workdir, people=("004", "005", "006"), views=("000", "090"), noise=1.0)
    return give_silhouettes(workdir, folder)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(workdirs...) -> the report's file."""
    return lambda *workdirs: make_report(workdirs, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def report(make, report_workdir):
    return make(report_workdir)


@pytest.fixture(scope="module")
def hostile(make, report_workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE_FOLDER
    return make(copy_renamed(report_workdir, folder, HOSTILE))


@pytest.fixture(scope="module")
def several(make, report_workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "noisy"
    return make(report_workdir, copy_renamed(report_workdir, folder, {}, noise=0.3))


def _evaluation(workdir):
    return json.loads(max((workdir / "eval").glob("*.json")).read_text())


@pytest.mark.parametrize("kind", ["report", "several", "hostile"])
def test_everything_is_drawn_and_fits_a_phone(browser, kind, request):
    path = request.getfixturevalue(kind)
    assert path.stat().st_size < 10 * 2**20
    with browser.open(path, 1600) as page:
        assert "could not be made" not in page.locator("main").text_content()
        assert page.locator("section svg").count() > 4
        for width in (1600, 390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate(BROKEN) == [], f"{width} pixels"
            wide = page.evaluate("() => [document.scrollingElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], f"{width} pixels"


def test_tables_hold_the_numbers_of_the_evaluation(browser, report, report_workdir):
    evaluation = _evaluation(report_workdir)
    with browser.open(report) as page:
        tables = page.evaluate(TABLES)
        summary = page.locator("#summary").text_content()
    assert len(tables) > 5
    means_table = next(table for table in tables if table["caption"] == "Rank-1 in percent, means")
    heat_maps = [table for table in tables if table["section"] == "views"]
    assert len(heat_maps) == len(evaluation["rank1"])
    for row, heat_map, (name, means) in zip(
        means_table["rows"][1:], heat_maps, evaluation["rank1"].items(), strict=True
    ):
        numbers = [
            means["excluding_identical_view"],
            means["including_identical_view"],
            *evaluation["confidence"][name],
        ]
        numbers.append(headline(evaluation["baseline_gei"][name]))
        assert row[:6] == [name, *(f"{number:.2f}" for number in numbers)]
        assert f"{headline(means):.1f}" in summary
        assert heat_map["rows"][0][1:] == evaluation["views"]
        for line, view, values in zip(heat_map["rows"][1:], evaluation["views"], means["matrix"], strict=True):
            assert line[0] == view
            assert [float(cell) for cell in line[1:]] == pytest.approx(values, abs=0.05001)


def test_a_point_of_the_map_shows_its_walker(browser, report):
    with browser.open(report) as page:
        points, shown = page.locator("#map .points use"), page.locator("#map .shown")
        seen = set()
        for number in (3, 11, 28):
            label = points.nth(number).locator("title").text_content().replace("\u2068", "").replace("\u2069", "")
            points.nth(number).click(force=True)
            shown_label = [shown.locator(f".shown-{part}").text_content() for part in ("person", "condition", "view")]
            assert ", ".join(shown_label) == label
            walker = shown.locator("img")
            assert walker.is_visible()
            assert walker.evaluate("e => e.decode().then(() => e.naturalWidth * e.naturalHeight)") > 1000
            seen.add(walker.get_attribute("src"))
        assert len(seen) == 3
        # The same by keyboard: the map is one stop of the tab key, arrows go from point to point.
        stops = page.locator("#map .points use[tabindex='0']")
        assert stops.count() == 1
        stops.focus()
        before = shown.locator(".shown-person, .shown-condition, .shown-view").all_text_contents()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        after = shown.locator(".shown-person, .shown-condition, .shown-view").all_text_contents()
        assert before != after
        focused = page.evaluate("() => document.activeElement.querySelector('title').textContent")
        assert [part for part in after if part not in focused] == []


def test_colours_of_the_map_are_switched(browser, report):
    with browser.open(report) as page:
        colours = {}
        for by in ("person", "view", "condition"):
            page.locator(f"#map input[value={by}]").check()
            legend = page.locator(f"#map .legend[data-by={by}]")
            assert legend.is_visible()
            assert page.locator("#map .legend:visible").count() == 1
            fills = "points => points.map(p => getComputedStyle(p).fill + p.getAttribute('href'))"
            colours[by] = tuple(page.locator("#map .points use").evaluate_all(fills))
            assert len(set(colours[by])) == legend.locator("button").count() > 1
        assert len(set(colours.values())) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(browser, report, scheme):
    with browser.open(report, color_scheme=scheme) as page:
        texts = page.evaluate(CONTRASTS)
        assert len(texts) > 200
        assert texts[0][0] >= 4.5, texts[:8]
        paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 384) == (scheme == "light")
        page.locator("#theme").click()
        texts = page.evaluate(CONTRASTS)
        assert texts[0][0] >= 4.5, texts[:8]
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != paper


def test_a_print_has_all_sections(browser, report):
    with browser.open(report, color_scheme="dark") as page:
        names = page.locator("nav a").all_text_contents()
        page.emulate_media(media="print")
        assert page.locator("section h2:visible").all_text_contents() == names
        for section in page.locator("section").all():
            assert section.bounding_box()["height"] > 60
        assert page.evaluate(BROKEN) == []
        assert not page.locator("nav").is_visible()
        texts = page.evaluate(CONTRASTS)
        assert texts[0][0] >= 4.5, texts[:8]
        pdf = page.pdf(format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 2


def test_contents_lead_to_sections_by_keyboard(browser, report):
    with browser.open(report) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("() => document.activeElement.id") == "content"
        for link in page.locator("nav a").all():
            assert page.locator(link.get_attribute("href")).count() == 1
        levels = page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1


def test_axe_finds_no_violation(browser, several):
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    with browser.open(several) as page:
        page.evaluate("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
        page.evaluate(axe)
        found = page.evaluate("() => axe.run().then(result => result.violations)")
    said = [(v["id"], v["help"], [node["html"][:120] for node in v["nodes"]][:3]) for v in found]
    assert said == []


def test_hostile_names_are_text(browser, hostile):
    with browser.open(hostile, width=900) as page:
        text = page.locator("body").text_content()
        for name in HOSTILE.values():
            assert name.replace("\u202e", "\\u202e") in text or name in text, name
        assert "onerror=alert(7)" in page.title()
        assert page.locator("img[src=x], svg[onload], b, [onclick]").count() == 0
        assert page.locator("script:not([type])").count() == 1
        for number in (0, 9, 20):
            page.locator("#map .points use").nth(number).click(force=True)
            assert page.locator("#map .shown-person").text_content() in HOSTILE.values()
        page.evaluate("() => document.querySelectorAll('details').forEach(e => { e.open = true; })")
        assert page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")


def test_several_workdirs_stand_side_by_side(browser, several, report_workdir):
    with browser.open(several) as page:
        assert page.locator("h1 bdi").all_text_contents() == [report_workdir.name, "noisy"]
        assert page.locator("#summary tbody th").all_text_contents() == ["tiny", "noisy"]
        assert page.locator("#map .map").count() == 2
        for place in range(2):
            page.locator("#map .map").nth(place).locator(".points use").nth(5).click(force=True)
            assert page.locator("#map .shown").nth(place).is_visible()


def test_what_is_missing_is_said(browser, make, report_workdir, tmp_path):
    folder = copy_renamed(report_workdir, tmp_path / "untested", {})
    for path in (folder / "eval").iterdir():
        path.unlink()
    with browser.open(make(folder), width=390) as page:
        assert "--mode=eval" in page.locator("#summary").text_content()
        assert page.locator("section svg").count() >= 1  # the training's curves are there
        assert page.evaluate(BROKEN) == []
        assert page.evaluate("() => document.scrollingElement.scrollWidth <= innerWidth")


def test_one_person_has_a_report(browser, make, report_workdir, tmp_path):
    folder = copy_renamed(report_workdir, tmp_path / "one", {})
    for path in (folder / "eval").glob("*.npz"):
        table, about = load_embeddings(path)
        own = table.subjects == table.subjects[0]
        kept = [column[own] for column in table[1:]]
        embeddings = table.embeddings[own]
        path.unlink()
        save_embeddings(path, type(table)(embeddings, *kept), embeddings, about)
        evaluate_again(path)
    with browser.open(make(folder)) as page:
        assert page.evaluate(BROKEN) == []
        assert page.locator("#map .points use").count() == len(kept[0])
        assert "NaN" not in page.locator("main").text_content()
