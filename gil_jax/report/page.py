"""The page of a report: its sections, written into one HTML file."""

import base64
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import get_args

from markupsafe import Markup

from gil_jax.data.files import write_atomically
from gil_jax.report import (
    blocks,
    compare,
    curves,
    facts,
    matrices,
    mistakes,
    people_map,
    svg,
    tables,
    training,
)
from gil_jax.report.blocks import Missing, Note, Section
from gil_jax.report.context import Context, open_context
from gil_jax.report.fragments import make_environment, read_text

# Sections in the order of the page: (anchor, title, function). A function that raises Missing leaves a note.
SECTIONS: tuple[tuple[str, str, Callable[[Context], Section]], ...] = (
    ("summary", "In short", facts.summary),
    ("setup", "What was run", facts.setup),
    ("tables", "Tables", tables.tables),
    ("comparison", "Side by side", compare.comparison),
    ("views", "View by view", tables.heat_maps),
    ("curves", "Curves", curves.curves),
    ("distances", "Distances of pairs", curves.distances),
    ("training", "Training", training.training),
    ("map", people_map.TITLE, people_map.people_map),
    ("similarity", matrices.TITLE, matrices.matrices),
    ("mistakes", mistakes.TITLE, mistakes.mistakes),
)
PATIENCE = 2  # seconds after which progress is shown


def write_page(workdirs: Sequence[str | Path], out: str | Path | None, step: int | None, embeds: bool) -> Path:
    """Write the report of workdirs; see `make_report`."""
    context = open_context(workdirs, step, embeds)
    if out is None:
        out = context.runs[0].folder / "report.html" if len(context.runs) == 1 else Path("report.html")
    path = Path(out).expanduser()
    if path.is_dir():
        raise ValueError(f"--out={path} is a folder: give the name of a file")
    content = render(context, _sections(context))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise OSError(f"{path} can't be written ({error}): give another --out") from error
    return path


def render(context: Context, sections: Sequence[Section]) -> str:
    """Write the page: style, scripts and figures are in it, and it may load nothing from anywhere."""
    environment = make_environment()
    environment.filters |= {"cell": _cell, "numeric_columns": _numeric_columns}
    environment.tests |= {kind.__name__.lower(): _is(kind) for kind in get_args(blocks.Block)}
    environment.tests["numeric"] = _is_numeric
    style, script = ("\n".join(read_text(file) for file in _package_files(suffix)) for suffix in (".css", ".js"))
    style += svg.heat_colors(tables.LEVELS)
    return environment.get_template("report.html.j2").render(
        title=_title(context),
        runs=context.runs,
        sections=sections,
        style=Markup(style),
        script=Markup(script),
        policy="default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'",
    )


def _sections(context: Context) -> list[Section]:
    began, made = time.monotonic(), []
    for identifier, title, make in SECTIONS:
        if time.monotonic() - began > PATIENCE:
            print(f"report: {title} ...", file=sys.stderr)
        try:
            made.append(make(context))
        except Missing as missing:
            made.append(Section(identifier, title, "", [Note(missing.text, "missing")]))
        except Exception as error:  # one part that fails must not take the others with it
            text = f"This part could not be made ({type(error).__name__}: {error})."
            print(f"report: {title}: {text}", file=sys.stderr)
            made.append(Section(identifier, title, "", [Note(text, "warning")]))
    return [section for section in made if section.blocks]


def _title(context: Context) -> str:
    return "Gait recognition: " + ", ".join(blocks.visible(run.name) for run in context.runs)


def _cell(cell: blocks.Cell, digits: int) -> blocks.Text:
    if isinstance(cell, bool) or cell is None or isinstance(cell, float):
        return blocks.number(cell, digits)
    return f"{cell:,}" if isinstance(cell, int) else cell


def _numeric_columns(table: blocks.Table) -> list[bool]:
    """Tell which columns hold numbers; those of a heat map all do."""
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    return [
        place >= table.heads and (table.levels is not None or any(map(_is_numeric, column)))
        for place, column in enumerate(columns)
    ]


def _is_numeric(cell: blocks.Cell) -> bool:
    return cell is None or isinstance(cell, int | float)


def _is(kind: type) -> Callable[[object], bool]:
    return lambda block: isinstance(block, kind)


def _package_files(suffix: str) -> list[str]:
    return sorted(file.name for file in files("gil_jax.report").iterdir() if file.name.endswith(suffix))


def _digest(content: str) -> str:
    """Hash an inline style or script, as a Content-Security-Policy allows it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
