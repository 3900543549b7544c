"""A report of workdirs as one HTML file that needs nothing else. Its libraries are imported when one is made."""

from collections.abc import Callable, Sequence
from pathlib import Path

EXTRA = ("jinja2", "markupsafe", "matplotlib", "sklearn")


def make_report(
    workdirs: Sequence[str | Path], out: str | Path | None = None, step: int | None = None, embeds: bool = True
) -> Path:
    """Write the report of one workdir, or of several side by side, and return its path.

    out: by default report.html in the workdir, or in the current folder where there are several. step: of the
    evaluation and its embeddings; by default the latest. embeds: compute embeddings again that an evaluation did not
    keep, where checkpoint and data are there. Nothing else is written. Raises ValueError or FileNotFoundError for a
    path that is no workdir, and ImportError that names the extra where a library is missing.
    """
    try:
        from gil_jax.report.page import write_page
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in EXTRA:
            raise
        raise ImportError(f"the report needs {error.name}: pip install -e .[report]", name=error.name) from error
    return write_page(workdirs, out, step, embeds)


def report_of_training(workdir: str, say: Callable[[str], None]) -> None:
    """Make the report that a training ends with, and say where it is; a failure is a warning, whatever it is."""
    try:
        say(str(make_report([workdir], embeds=False)))
    except Exception as error:
        say(f"warning: the report is left out: {error}. `python -m gil_jax report {workdir}` makes it")
