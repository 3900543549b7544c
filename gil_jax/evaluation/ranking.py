"""Who is found: distances between sequences, and the share of probes whose nearest gallery sequences are right."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gil_jax.data.protocols import Protocol, gallery_and_probes
from gil_jax.types import EmbeddingTable

METRICS = ("euclidean", "cosine")
MEASURES = ("rank1", "rank5", "mAP", "mINP", "rank1_with_gallery")


@partial(jax.jit, static_argnames="metric")
def part_distances(probes, gallery, metric: str = "euclidean"):
    """Distance of every probe to every gallery sequence: the mean over parts, float32 [a, b].

    probes [a, p, d], gallery [b, p, d]. "euclidean": |x - y| of each part; "cosine": 1 - cosine of each part.
    """
    centre = jnp.mean(gallery, axis=0)  # distances stay the same, and their differences keep more digits

    def add_part(total, parts):
        x, y, middle = parts
        if metric == "euclidean":
            x, y = x - middle, y - middle
            inner = jnp.matmul(x, y.T, precision="highest")
            squared = jnp.sum(x * x, -1)[:, None] + jnp.sum(y * y, -1)[None, :] - 2.0 * inner
            return total + jnp.sqrt(jnp.maximum(squared, 0.0)), None
        x, y = (v / jnp.maximum(jnp.linalg.norm(v, axis=-1, keepdims=True), 1e-12) for v in (x, y))
        return total + 1.0 - jnp.matmul(x, y.T, precision="highest"), None

    zero = jnp.zeros((probes.shape[0], gallery.shape[0]), jnp.float32)
    parts = (jnp.swapaxes(probes, 0, 1), jnp.swapaxes(gallery, 0, 1), centre)
    return jax.lax.scan(add_part, zero, parts)[0] / probes.shape[1]


def rank_matrix(
    table: EmbeddingTable, protocol: Protocol, metric: str = "euclidean", chunk: int = 1024
) -> tuple[list[str], dict[str, dict[str, np.ndarray]]]:
    """Look every probe up in the gallery of every view.

    Returns (views, cells): cells[measure][probe set] is float64 [probe view, gallery view] in percent, rounded to 2
    decimals, NaN where there is nothing to compare. Measures: "rank1", "rank5" (share of probes whose k nearest
    hold the right subject; a probe without a gallery sequence of that view is a miss), "rank1_with_gallery" (such
    probes left out), "mAP" and "mINP" (Ye et al., TPAMI 2021; over probes with a gallery).
    """
    if metric not in METRICS:
        raise ValueError(f"config.eval.metric={metric!r}: choose one of {METRICS}")
    enrolled, probe_sets = gallery_and_probes(protocol, table.conditions)
    gallery_rows = np.flatnonzero(enrolled)
    views = sorted(set(table.views[enrolled]) | {v for m in probe_sets.values() for v in table.views[m]})
    columns = [np.flatnonzero(table.views[gallery_rows] == view) for view in views]
    cells = {name: {} for name in MEASURES}
    for probe_set, mask in probe_sets.items():
        rows = np.flatnonzero(mask)
        scores = _score_probes(table, rows, gallery_rows, columns, metric, chunk)
        of_view = [table.views[rows] == view for view in views]
        for name in MEASURES:
            cells[name][probe_set] = np.array(
                [[_percent(scores[name][probes, g]) for g in range(len(views))] for probes in of_view]
            )
    return views, cells


def _score_probes(table, rows, gallery_rows, columns, metric, chunk) -> dict[str, np.ndarray]:
    """Every measure of every probe (rows) against the gallery of every view: {name: float [probes, views]}."""
    scores = {name: np.full((len(rows), len(columns)), np.nan) for name in MEASURES}
    if len(rows) == 0 or len(gallery_rows) == 0:
        return scores
    gallery = jnp.asarray(table.embeddings[gallery_rows])
    gallery_subjects = table.subjects[gallery_rows]
    for start in range(0, len(rows), chunk):
        part = rows[start : start + chunk]
        distances = np.asarray(part_distances(jnp.asarray(table.embeddings[part]), gallery, metric))
        for view, members in enumerate(columns):
            if len(members) == 0:
                continue
            nearest = np.argsort(distances[:, members], axis=1, kind="stable")
            right = gallery_subjects[members][nearest] == table.subjects[part][:, None]
            for name, values in _measure(right).items():
                scores[name][start : start + len(part), view] = values
    return scores


def _measure(right: np.ndarray) -> dict[str, np.ndarray]:
    """right: bool [probes, gallery], nearest first -> every measure [probes], NaN where it does not count."""
    found = right.sum(axis=1)
    place = np.arange(1, right.shape[1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = (right * np.cumsum(right, axis=1) / place).sum(axis=1) / found
        last = np.where(right, place, 0).max(axis=1)
        inverse_penalty = found / last
    rank1 = right[:, 0].astype(float)
    return {
        "rank1": rank1,
        "rank5": right[:, :5].any(axis=1).astype(float),
        "mAP": precision,
        "mINP": inverse_penalty,
        "rank1_with_gallery": np.where(found > 0, rank1, np.nan),
    }


def _percent(values: np.ndarray) -> float:
    counted = values[~np.isnan(values)]
    return round(100 * float(counted.mean()), 2) if counted.size else float("nan")


def summarize(views: list[str], cells: dict[str, np.ndarray]) -> dict[str, dict]:
    """The means of a matrix per probe set, in percent; None where nothing was compared.

    cells: {probe set: [probe view, gallery view]}. Returns per probe set: "matrix"; "by_probe_view": mean over
    the gallery views other than the probe's own; "including_identical_view": the mean over all cells;
    "excluding_identical_view": the mean of "by_probe_view".
    """
    return {name: _summarize_one(np.asarray(matrix, float).reshape(len(views), -1)) for name, matrix in cells.items()}


def _summarize_one(matrix: np.ndarray) -> dict:
    others = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    by_probe_view = [_mean(row) for row in others]
    return {
        "matrix": [[_or_none(x) for x in row] for row in matrix],
        "by_probe_view": [_or_none(x) for x in by_probe_view],
        "including_identical_view": _or_none(_mean(matrix)),
        "excluding_identical_view": _or_none(_mean(np.array(by_probe_view))),
    }


def _mean(values: np.ndarray) -> float:
    counted = values[~np.isnan(values)]
    return float(counted.mean()) if counted.size else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 2)
