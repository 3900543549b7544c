"""Tables of reports in the layout of Table 1 of Yu et al. (ACM MM 2022), in LaTeX or Markdown, with its rows."""

import csv
from importlib.resources import files

from gil_jax.evaluation.measures import headline

STYLES = ("latex", "markdown")
PUBLISHED_SETTINGS = {"st": "ST", "mt": "MT", "lt": "LT"}


def format_tables(reports: list[dict], style: str) -> str:
    """Write rank-1 by probe set, method and probe view, and the mean; published rows stand above ours.

    reports: of `evaluate_table`, with "dataset", "split" and "step" and, if wanted, "method", the name of their row.
    Reports of one data set, split, protocol and views share a table. style: one of STYLES. The published rows are of
    CASIA-B without identical views, in the splits st, mt and lt.
    """
    if style not in STYLES:
        raise ValueError(f"style {style!r}: choose one of {', '.join(STYLES)}")
    write = _latex if style == "latex" else _markdown
    return "\n\n".join(write(*tabulate(members)) for members in grouped(reports))


def grouped(reports: list[dict]) -> list[list[dict]]:
    """Group reports that share a table: those of one data set, split, protocol and views."""
    groups: dict[tuple, list[dict]] = {}
    for report in reports:
        key = (report["dataset"], report["split"], report["protocol"], tuple(report["views"]))
        groups.setdefault(key, []).append(report)
    return list(groups.values())


def published_rows(report: dict) -> dict[str, list[tuple[str, list[str]]]]:
    """Published rows that stand beside a report: probe set -> [(method, cells and mean as printed), ...]."""
    setting = PUBLISHED_SETTINGS.get(report["split"])
    if report["dataset"] != "casia_b" or report["protocol"] != "casia_b" or setting is None:
        return {}
    text = files("gil_jax.evaluation").joinpath("paper_table1.csv").read_text(encoding="utf-8")
    rows: dict[str, list[tuple[str, list[str]]]] = {}
    for line in csv.DictReader(text.splitlines()):
        if line["split"] == setting:
            cells = [line.get(view, "-") for view in report["views"]]
            rows.setdefault(line["condition"], []).append((f"{line['method']} (published)", [*cells, line["mean"]]))
    return rows


def tabulate(reports: list[dict]) -> tuple[str, list[str], list[tuple[str, str, list[str]]]]:
    """Build (caption, columns, rows of (probe set, method, cells)) of reports that share a table; see `format_tables`.

    Cells are numbers as printed, with one decimal, or a dash.
    """
    first, rows = reports[0], []
    published = published_rows(first)
    excluding = all(s["excluding_identical_view"] is not None for s in first["rank1"].values())
    for probe_set in first["rank1"]:
        rows += [(probe_set, method, cells) for method, cells in published.get(probe_set, [])]
        for report in reports:
            summary = report["rank1"][probe_set]
            cells = [*summary["by_probe_view"], headline(summary)]
            method = report.get("method") or f"ours, step {report['step']}"
            rows.append((probe_set, method, ["-" if x is None else f"{x:.1f}" for x in cells]))
    galleries = {", ".join(c["gallery_conditions"]) for c in first["compared"].values()}
    caption = (
        f"Rank-1 (%) on {first['dataset']}, split {first['split']}, gallery {'; '.join(sorted(galleries))}, by "
        "probe view" + (", identical views left out" if excluding else "")
    )
    return caption, [*first["views"], "mean"], rows


def _markdown(caption: str, columns: list[str], rows: list[tuple[str, str, list[str]]]) -> str:
    lines = [
        f"{caption}.",
        "",
        "| probe | method | " + " | ".join(columns) + " |",
        "|---|---|" + "---:|" * len(columns),
    ]
    lines += [f"| {probe_set} | {method} | " + " | ".join(cells) + " |" for probe_set, method, cells in rows]
    return "\n".join(lines)


def _latex(caption: str, columns: list[str], rows: list[tuple[str, str, list[str]]]) -> str:
    """Write a table for booktabs and multirow."""
    views = [f"${int(c)}^\\circ$" if c.isdecimal() else _escape(c) for c in columns]
    lines = [
        r"\begin{table*}",
        rf"\caption{{{_escape(caption)}.}}",
        r"\begin{tabular}{ll" + "c" * len(columns) + "}",
        r"\toprule",
        "Probe & Method & " + " & ".join(views) + r" \\",
    ]
    before = None
    for probe_set, method, cells in rows:
        label = ""
        if probe_set != before:
            count = sum(name == probe_set for name, _, _ in rows)
            lines.append(r"\midrule")
            label, before = rf"\multirow{{{count}}}{{*}}{{{_escape(probe_set)}}}", probe_set
        lines.append(f"{label} & {_escape(method)} & " + " & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}"])


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "_%&#$" else letter for letter in text)
