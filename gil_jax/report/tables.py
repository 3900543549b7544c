"""Tables of an evaluation: rank-1 as the paper prints it, other measures, and view by view."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gil_jax.config import published_rank1
from gil_jax.evaluation.measures import headline
from gil_jax.evaluation.tables import grouped, tabulate
from gil_jax.report.blocks import Block, Cell, Figure, Note, Section, Table, name, number, sentence
from gil_jax.report.context import Context, Run, run_by_run

LEVELS = 21  # colours of a heat map
MOST_VIEWS = 40  # of a heat map
_OTHERS = (
    ("all", "rank1_all"),
    ("enrolled", "rank1_with_gallery"),
    ("rank-5", "rank5"),
    ("rank-10", "rank10"),
    ("rank-20", "rank20"),
    ("mAP", "mAP"),
    ("mINP", "mINP"),
)


def tables(context: Context) -> Section:
    """Tabulate rank-1 by probe view with published rows, its means and intervals, and the other measures."""
    evaluated = [run for run in context.runs if run.evaluation is not None]
    reports = [{**run.report, "method": run.name if len(evaluated) > 1 else _own_name(run)} for run in evaluated]
    blocks: list[Block] = [_by_view(members) for members in grouped(reports)]
    if not blocks:
        blocks += run_by_run(context, lambda run, _: [Note(run.report["split"])])
    blocks += [_means(evaluated), _other_measures(evaluated)] if evaluated else []
    text = (
        "Rank-1 is the share of probes whose nearest gallery sequence is the right person's, in percent. A column is "
        "the view of the probe, averaged over the gallery views; rows named “published” are as printed in the papers."
    )
    return Section("tables", "Tables", text, blocks)


def heat_maps(context: Context) -> Section:
    """Show rank-1 of every probe view in every gallery view, for each probe set."""
    values = [
        value
        for run in context.runs
        if run.evaluation is not None
        for summary in run.report["rank1"].values()
        for line in summary["matrix"]
        for value in line
        if value is not None
    ]
    low = float(np.floor(min(values, default=0.0)))
    text = sentence(
        "A line is the view of the probe, a column the view of the gallery. Colours run from dark, {} %, to bright, "
        "100 %, the same in all maps. Hard are, as a rule, views far from each other, and those from the front (0°) "
        "and from behind (180°).",
        f"{low:.0f}",
    )
    blocks = run_by_run(context, lambda run, suffix: _heat_maps_of(run, suffix, low))
    return Section("views", "View by view", text, blocks)


def _own_name(run: Run) -> str:
    model = ((run.config or {}).get("model") or {}).get("name")
    return f"{model}, step {run.report['step']}" if model else f"ours, step {run.report['step']}"


def _by_view(reports: list[dict[str, Any]]) -> Table:
    caption, columns, rows = tabulate(reports)
    cells = [[name(probe_set), name(method), *map(_number, values)] for probe_set, method, values in rows]
    return Table(caption, ["probes", "method", *map(name, columns)], cells, heads=2)


def _means(runs: list[Run]) -> Table:
    """Tabulate the means with their intervals, gait energy images and the published number."""
    rows: list[list[Cell]] = []
    for probe_set, run in _lines(runs):
        report = run.report
        summary, energy = report["rank1"][probe_set], (report.get("baseline_gei") or {}).get(probe_set)
        low, high = (report.get("confidence") or {}).get(probe_set) or (None, None)
        means = [summary["excluding_identical_view"], summary["including_identical_view"]]
        published = (_published(run) or {}).get(probe_set)
        rows.append([*_heads(runs, probe_set, run), *means, low, high, headline(energy) if energy else None, published])
    columns = ["excl.", "incl.", "95 % from", "to", "GEI", "published"]
    note = (
        "excl.: without the gallery view of the probe itself; incl.: with it. The 95 % interval is of excl. (of incl. "
        "where views are not told apart), over draws of people. GEI: nearest gait energy image, the mean silhouette, "
        "on the same sequences. published: of exactly this network and loss, where there is such a number."
    )
    return Table("Rank-1 in percent, means", [*_columns(runs), *columns], rows, len(_columns(runs)), 2, note)


def _other_measures(runs: list[Run]) -> Table:
    rows: list[list[Cell]] = []
    for probe_set, run in _lines(runs):
        report = run.report
        verified = (report.get("verification") or {}).get(probe_set) or {}
        opened = (report.get("open_set") or {}).get(probe_set) or {}
        row: list[Cell] = [*_heads(runs, probe_set, run)]
        row += [headline(report[measure][probe_set]) if measure in report else None for _, measure in _OTHERS]
        row += [verified.get("eer"), *((verified.get("tar") or {}).get(rate) for rate in ("0.01", "0.001"))]
        rows.append([*row, (opened.get("dir") or {}).get("0.01")])
    columns = [*(title for title, _ in _OTHERS), "EER", "TAR@1%", "TAR@.1%", "DIR@1%"]
    note = (
        "all, enrolled: rank-1 of all probes, and of those whose person is in the gallery. rank-k: the right person is "
        "among the k nearest. mAP, mINP: mean average precision and inverse negative penalty. EER: equal error rate of "
        "saying whether two sequences show one person. TAR: share of genuine pairs accepted, at that share of impostor "
        "pairs. DIR: share of probes found and accepted, at that share of strangers accepted."
    )
    return Table("Other measures, in percent", [*_columns(runs), *columns], rows, len(_columns(runs)), 2, note)


def _lines(runs: list[Run]) -> list[tuple[str, Run]]:
    """List probe sets with the runs that have them: the lines of a table."""
    sets = dict.fromkeys(probe_set for run in runs for probe_set in run.report["rank1"])
    return [(probe_set, run) for probe_set in sets for run in runs if probe_set in run.report["rank1"]]


def _columns(runs: list[Run]) -> list[str]:
    return ["probes", "run"] if len(runs) > 1 else ["probes"]


def _heads(runs: list[Run], probe_set: str, run: Run) -> list[Cell]:
    return [name(probe_set), name(run.name)] if len(runs) > 1 else [name(probe_set)]


def _published(run: Run) -> dict[str, float] | None:
    """Published rank-1 of the run's config; None also where the config is of another version."""
    try:
        config = ConfigDict(run.config)
        config.data.name, config.data.split = run.report["dataset"], run.report["split"]
        return published_rank1(config)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _heat_maps_of(run: Run, suffix: str, low: float) -> list[Block]:
    blocks: list[Block] = []
    for place, (probe_set, summary) in enumerate(run.report["rank1"].items()):
        matrix, views = summary["matrix"], run.report["views"]
        width = len(matrix[0]) if matrix else 0
        galleries = views if width == len(views) else ["all views"]
        if len(matrix) < 2 and width < 2:
            text = "{}: there is a single view, or one gallery of all views: nothing to show view by view."
            blocks.append(Note(sentence(text, name(probe_set)), "missing"))
        elif len(matrix) != len(views) or width != len(galleries) or len(views) > MOST_VIEWS:
            text = sentence(
                "{}: {} probe views and {} galleries are not shown as a map; they are in {}.",
                name(probe_set),
                len(matrix),
                width,
                name(run.evaluation.path if run.evaluation else ""),
            )
            blocks.append(Note(text, "missing"))
        else:
            blocks.append(_heat_map(f"views{suffix}-{place}", probe_set, (views, galleries), matrix, low))
    return blocks


def _heat_map(
    identifier: str, probe_set: str, names: tuple[list[str], list[str]], matrix: list[list[float | None]], low: float
) -> Figure:
    """Draw the cells [probe view, gallery] as a table with coloured cells; names: of the lines and of the columns."""
    views, galleries = names
    levels = [[_level(value, low) for value in line] for line in matrix]
    rows: list[list[Cell]] = [[name(view), *map(_cell, line)] for view, line in zip(views, matrix, strict=True)]
    caption = sentence("{}: rank-1 (%) by probe view (lines) and gallery view (columns)", name(probe_set))
    table = Table(caption, ["probe", *map(name, galleries)], rows, levels=levels)
    found = [(value, i, j) for i, line in enumerate(matrix) for j, value in enumerate(line) if value is not None]
    if not found:
        return Figure(identifier, name(probe_set), "", table, "Nothing was compared.")
    worst, best = min(found), max(found)
    alt = sentence(
        "Hardest: probe view {} in gallery view {}, {} %. {} of {} cells are at {} %, the highest.",
        name(views[worst[1]]),
        name(galleries[worst[2]]),
        number(worst[0]),
        sum(value == best[0] for value, *_ in found),
        len(found),
        number(best[0]),
    )
    return Figure(identifier, name(probe_set), "", table, alt)


def _level(value: float | None, low: float) -> int | None:
    return None if value is None else round((LEVELS - 1) * float(np.clip((value - low) / max(100 - low, 1e-9), 0, 1)))


def _cell(value: float | None) -> Cell:
    return "" if value is None else f"{value:.0f}" if value == 100 else f"{value:.1f}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
