"""The result of an evaluation: the record that is kept and the table that a human reads."""

import numpy as np

from gil_jax.data.protocols import Protocol
from gil_jax.evaluation.ranking import MEASURES, rank_matrix, summarize
from gil_jax.types import EmbeddingTable


def evaluate_table(table: EmbeddingTable, energy: EmbeddingTable, protocol: Protocol, metric: str) -> dict:
    """Rank a split by a network's embeddings, and beside it by gait energy images.

    Returns {"metric", "protocol", "views", "rank1": {probe set: see summarize}, the other measures, "baseline_gei":
    the rank-1 of the nearest energy image, the same shape as "rank1"}. Rates are in percent.
    """
    views, cells = rank_matrix(table, protocol, metric)
    _, baseline = rank_matrix(energy, protocol, "euclidean")
    return {
        "metric": metric,
        "protocol": protocol.name,
        "views": views,
        **{name: summarize(views, cells[name]) for name in MEASURES},
        "baseline_gei": summarize(views, baseline["rank1"]),
    }


def format_report(report: dict, subjects: int, expected: dict | None = None) -> str:
    """The rank-1 table: by probe set and probe view, beside the energy images and, if there are, published numbers."""
    views = report["views"]
    widths = [max(6, len(view) + 1) for view in views]
    header = "".join(f"{view:>{width}}" for view, width in zip(views, widths, strict=True))
    lines = [
        f"rank-1 (%) on {report['dataset']}, split {report['split']}, step {report['step']}: "
        f"{subjects} people who were not in training",
        f"{'probe':6}{'by':10}{header}{'excl.':>9}{'incl.':>9}",
    ]
    for name, network in report["rank1"].items():
        lines.append(_row(name, "network", network, widths))
        lines.append(_row("", "GEI", report["baseline_gei"][name], widths))
        if expected and name in expected:
            blank = " " * sum(widths)
            lines.append(f"{'':6}{'published':10}{blank}{expected[name]:9.1f}")
    lines.append(
        "columns: probe view, mean over the other gallery views; excl./incl.: mean without/with identical views; "
        "GEI: nearest gait energy image"
    )
    return "\n".join(lines)


def _row(probe_set: str, by: str, summary: dict, widths: list[int]) -> str:
    cells = "".join(_number(x, width) for x, width in zip(summary["by_probe_view"], widths, strict=True))
    means = [summary["excluding_identical_view"], summary["including_identical_view"]]
    return f"{probe_set:6}{by:10}{cells}" + "".join(_number(x, 9, 2) for x in means)


def _number(value: float | None, width: int, digits: int = 1) -> str:
    return f"{'-':>{width}}" if value is None or np.isnan(value) else f"{value:{width}.{digits}f}"
