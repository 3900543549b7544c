"""The nearest sequence of the right person and of anybody else for every probe, and the worst of these lookups."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from gil_jax.data.lookups import Lookup, Protocol, compared_views, lookups
from gil_jax.evaluation.distances import GalleryDistances
from gil_jax.evaluation.ranking import leaves_identical_out
from gil_jax.evaluation.reranking import rerank_rows
from gil_jax.types import EmbeddingTable, RowsOf

MOST_PAIRS = 200_000_000  # distances; of a larger probe set some probes are looked up
Rerank = tuple[int, int, float]


class Nearest(NamedTuple):
    """Nearest sequences of the probes of one probe set in every gallery.

    probes: rows of the table; of: number of probes that the probe set has, more than that where some were chosen.
    galleries: view of each gallery, ["all"] where there is one. right, wrong: row of the nearest sequence of the
    probe's person, and of anybody else, -1 where there is none. right_distance, wrong_distance: infinite there.
    counted: False for identical views, where the protocol compares views with views.
    """

    probes: Int[np.ndarray, " a"]
    of: int
    galleries: list[str]
    right: Int[np.ndarray, "a g"]
    wrong: Int[np.ndarray, "a g"]
    right_distance: Float[np.ndarray, "a g"]
    wrong_distance: Float[np.ndarray, "a g"]
    counted: Bool[np.ndarray, "a g"]


class Case(NamedTuple):
    """A lookup that is shown: rows of the probe and of its nearest sequences, and their distances.

    gallery: view of the gallery, or "all".
    """

    probe: int
    gallery: str
    right: int
    wrong: int
    right_distance: float
    wrong_distance: float


class Worst(NamedTuple):
    """Lookups of a probe set that went wrong by the widest margin, or went right by the narrowest.

    lookups: number that have a right and a wrong answer; errors: number whose nearest sequence is of somebody else.
    """

    cases: list[Case]
    lookups: int
    errors: int


def find_nearest(
    table: EmbeddingTable,
    protocol: Protocol,
    metric: str = "euclidean",
    rerank: Rerank | None = None,
    most_pairs: int = MOST_PAIRS,
) -> dict[str, Nearest]:
    """Find the nearest right and wrong sequences of every probe set, by the lookups and distances of `rank`.

    rerank: see `rank`. Raises ValueError as `lookups` does. The embeddings have to be finite.
    """
    views = compared_views(protocol, table.views)
    return {
        name: _find_in_set(table, protocol, lookup, views, metric, rerank, most_pairs)
        for name, lookup in lookups(protocol, table).items()
        if len(lookup.probes)
    }


def _find_in_set(
    table: EmbeddingTable,
    protocol: Protocol,
    lookup: Lookup,
    views: Shaped[np.ndarray, " n"],
    metric: str,
    rerank: Rerank | None,
    most_pairs: int,
) -> Nearest:
    apart, gallery = protocol.compare == "apart", lookup.gallery
    number = max(min(len(lookup.probes), most_pairs // max(len(gallery), 1)), 1)
    chosen = np.linspace(0, len(lookup.probes) - 1, number).astype(int) if rerank is None else slice(None)
    probes = lookup.probes[chosen]
    names = sorted(set(views[gallery].tolist())) if apart else ["all"]
    group = np.searchsorted(names, views[gallery]) if apart else np.zeros(len(gallery), np.int64)
    identical = leaves_identical_out(protocol, views[lookup.probes], views[gallery])
    counted = np.array([[not identical or view != name for name in names] for view in views[probes].tolist()], bool)
    counted = counted.reshape(len(probes), len(names))
    rows = np.full((2, len(probes), len(names)), -1, np.int64)
    nearest = np.full(rows.shape, np.inf, np.float32)
    distances = GalleryDistances(RowsOf(table.embeddings, gallery), metric)
    embeddings = RowsOf(table.embeddings, probes)
    for place, block in distances.rows(embeddings) if rerank is None else rerank_rows(embeddings, distances, *rerank):
        found = probes[place]
        own = table.subjects[found][:, None] == table.subjects[gallery]
        left_out = np.zeros(own.shape, bool)
        if protocol.leave_one_out:
            left_out |= found[:, None] == gallery
        if protocol.without_same_view:
            left_out |= own & (views[found][:, None] == views[gallery])
        for which, members in enumerate((own & ~left_out, ~own & ~left_out)):
            candidates = np.where(members, block, np.inf)
            for column in range(len(names)):
                inside = np.flatnonzero(group == column)
                if not len(inside):
                    continue
                best = np.argmin(candidates[:, inside], axis=1)
                value = candidates[np.arange(len(found)), inside[best]]
                nearest[which, place, column] = value
                rows[which, place, column] = np.where(np.isfinite(value), gallery[inside[best]], -1)
    (right, wrong), (right_distance, wrong_distance) = rows, nearest
    return Nearest(probes, len(lookup.probes), names, right, wrong, right_distance, wrong_distance, counted)


def find_worst(nearest: Nearest, most: int = 6) -> Worst:
    """Pick the lookups with the largest margin, the distance of the nearest right minus the nearest wrong sequence.

    One of each probe, the worst first: wrong ones, or, where there are none, the right ones of the narrowest margin.
    Equal distances count as wrong, as in `rank`.
    """
    usable = nearest.counted & (nearest.right >= 0) & (nearest.wrong >= 0)
    margin = np.full(usable.shape, -np.inf)
    margin[usable] = nearest.right_distance[usable] - nearest.wrong_distance[usable]
    errors = usable & (margin >= 0)
    if not usable.any():
        return Worst([], 0, 0)
    column = np.argmax(margin, axis=1)
    each = margin[np.arange(len(margin)), column]
    order = np.argsort(-each, kind="stable")[:most]
    shown = [i for i in order.tolist() if np.isfinite(each[i]) and (each[i] >= 0 or not errors.any())]
    cases = [
        Case(
            int(nearest.probes[i]),
            nearest.galleries[column[i]],
            int(nearest.right[i, column[i]]),
            int(nearest.wrong[i, column[i]]),
            float(nearest.right_distance[i, column[i]]),
            float(nearest.wrong_distance[i, column[i]]),
        )
        for i in shown
    ]
    return Worst(cases, int(usable.sum()), int(errors.sum()))
