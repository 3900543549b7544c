"""Places of the right people among the gallery sequences of every probe; what all ranks and rates are counted from."""

from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int, Shaped

from gil_jax.data.lookups import Lookup, Protocol, compared_views, lookups, names_of
from gil_jax.evaluation.distances import GalleryDistances, check_finite
from gil_jax.evaluation.reranking import rerank_rows
from gil_jax.types import EmbeddingTable, RowsOf

BITS = 11  # of a float32 that a histogram of distances drops: neighbouring bins differ by 2 ** -12 of the distance
BINS = (0x7F800000 >> BITS) + 1  # the last holds infinity


@dataclass(frozen=True)
class Ranking:
    """Outcome of looking up the probes of one probe set.

    rows: rows of the table that are probes; people: their subjects. views: names of the probe views (lines of the
    cells) and galleries: names of the galleries that each is looked up in (columns); view: line of each probe.
    first: place of the nearest gallery sequence of the right person, from 1; 0 where the gallery has none. precision:
    average precision; penalty: inverse negative penalty; NaN without a match. sizes: sequences of each gallery.
    own, other: distance of the nearest sequence of the right person, and of anybody else, infinite where there is none.
    genuine, impostor: histograms of the distances of all compared pairs, see `verification`. own to impostor leave out
    identical views where the protocol compares views with views.
    """

    rows: Int[np.ndarray, " a"]
    people: Shaped[np.ndarray, " a"]
    views: list[str]
    galleries: list[str]
    view: Int[np.ndarray, " a"]
    first: Int[np.ndarray, "a g"]
    precision: Float[np.ndarray, "a g"]
    penalty: Float[np.ndarray, "a g"]
    sizes: Int[np.ndarray, " g"]
    own: Float[np.ndarray, " a"]
    other: Float[np.ndarray, " a"]
    genuine: Int[np.ndarray, " bins"]
    impostor: Int[np.ndarray, " bins"]


def rank(
    table: EmbeddingTable,
    protocol: Protocol,
    metric: str = "euclidean",
    rerank: tuple[int, int, float] | None = None,
    mesh: Mesh | None = None,
) -> dict[str, Ranking]:
    """Look up the probes of every probe set of a protocol.

    rerank: (k1, k2, lambda) of k-reciprocal re-ranking, over all probes and the gallery of a probe set. Raises
    ValueError for embeddings that are not finite, and where a sequence is in its own gallery.
    """
    check_finite(table.embeddings, names_of(table, np.arange(len(table.subjects))))
    views = compared_views(protocol, table.views)
    found = lookups(protocol, table)
    if protocol.compare == "apart":
        used = np.concatenate([np.concatenate(lookup[:2]) for lookup in found.values()])
        names = sorted(set(views[used].tolist()))
    else:
        names = ["all"]
    prepared: dict[bytes, GalleryDistances] = {}
    result = {}
    for name, lookup in found.items():
        group = np.searchsorted(names, views[lookup.gallery]) if protocol.compare == "apart" else None
        order = _order(table.subjects[lookup.gallery], group)
        gallery = lookup.gallery[order]
        key = gallery.tobytes()
        if key not in prepared:
            prepared = {key: GalleryDistances(RowsOf(table.embeddings, gallery), metric, mesh)}
        result[name] = _rank_set(table, protocol, lookup, gallery, views, names, prepared[key], rerank)
    return result


def _rank_set(
    table: EmbeddingTable,
    protocol: Protocol,
    lookup: Lookup,
    gallery: Int[np.ndarray, " b"],
    views: Shaped[np.ndarray, " n"],
    names: list[str],
    distances: GalleryDistances,
    rerank: tuple[int, int, float] | None,
) -> Ranking:
    """Rank one probe set; gallery: its rows, sorted by column of the cells and by subject."""
    probes, apart = lookup.probes, protocol.compare == "apart"
    group = np.searchsorted(names, views[gallery]) if apart else np.zeros(len(gallery), np.int64)
    bounds = np.searchsorted(group, np.arange(len(names) + 1))
    lines = names if apart else ["all"] if protocol.compare == "together" else sorted(set(views[probes].tolist()))
    line = np.zeros(len(probes), np.int64) if lines == ["all"] else np.searchsorted(lines, views[probes])
    first = np.zeros((len(probes), len(names)), np.int64)
    precision, penalty = np.full(first.shape, np.nan), np.full(first.shape, np.nan)
    own, other = np.full((2, len(probes)), np.inf, np.float32)
    genuine, both = np.zeros((2, BINS), np.int64)
    identical = leaves_identical_out(protocol, views[probes], views[gallery])
    embeddings = RowsOf(table.embeddings, probes)
    blocks = distances.rows(embeddings) if rerank is None else rerank_rows(embeddings, distances, *rerank)
    for place, block in blocks:
        rows = probes[place]
        for column in range(len(names)):
            segment = slice(bounds[column], bounds[column + 1])
            matched = _own(table.subjects[rows], table.subjects[gallery[segment]])
            near, is_own = _own_distances(block[:, segment], matched, rows, gallery[segment], views, protocol)
            first[place, column], precision[place, column], penalty[place, column] = _places(block[:, segment], near)
            counted = line[place] != column if identical else np.ones(len(rows), bool)
            block[np.ix_(~counted, np.arange(segment.start, segment.stop))] = np.inf
            pairs = near[counted]
            genuine += _histogram(pairs)
            both += _histogram(block[counted, segment])
            own[place] = np.minimum(own[place], np.where(counted, near.min(axis=1, initial=np.inf), np.inf))
            block[:, segment][is_own] = np.inf
        other[place] = block.min(axis=1, initial=np.inf)
    genuine[-1] = both[-1] = 0
    return Ranking(
        probes,
        table.subjects[probes],
        lines,
        names,
        line,
        first,
        precision,
        penalty,
        np.diff(bounds),
        own,
        other,
        genuine,
        both - genuine,
    )


def leaves_identical_out(
    protocol: Protocol, probe_views: Shaped[np.ndarray, " a"], gallery_views: Shaped[np.ndarray, " b"]
) -> bool:
    """Tell whether identical views are left out; with a single view there is nothing but identical views."""
    return protocol.compare == "apart" and len({*probe_views.tolist(), *gallery_views.tolist()}) > 1


def _own(people: Shaped[np.ndarray, " a"], enrolled: Shaped[np.ndarray, " b"]) -> Int[np.ndarray, "a r"]:
    """Columns of the right person for each probe, -1 behind the last; enrolled: subjects, sorted."""
    low, high = np.searchsorted(enrolled, people, "left"), np.searchsorted(enrolled, people, "right")
    columns = low[:, None] + np.arange(max((high - low).max(initial=0), 0))
    return np.where(columns < high[:, None], columns, -1)


def _own_distances(
    block: Float[np.ndarray, "a b"],
    columns: Int[np.ndarray, "a r"],
    rows: Int[np.ndarray, " a"],
    gallery: Int[np.ndarray, " b"],
    views: Shaped[np.ndarray, " n"],
    protocol: Protocol,
) -> tuple[Float[np.ndarray, "a r"], tuple[np.ndarray, np.ndarray]]:
    """Distances to the right person, nearest first, infinite behind the last, and where they lie in the block.

    What the protocol leaves out becomes infinite in the block too.
    """
    probe, place = np.nonzero(columns >= 0)
    column = columns[probe, place]
    left_out = np.zeros(len(probe), bool)
    if protocol.leave_one_out:
        left_out |= rows[probe] == gallery[column]
    if protocol.without_same_view:
        left_out |= views[rows[probe]] == views[gallery[column]]
    block[probe[left_out], column[left_out]] = np.inf
    near = np.full(columns.shape, np.inf, np.float32)
    near[probe, place] = block[probe, column]
    return np.sort(near, axis=1), (probe, column)


def _places(
    block: Float[np.ndarray, "a b"], near: Float[np.ndarray, "a r"]
) -> tuple[Int[np.ndarray, " a"], Float[np.ndarray, " a"], Float[np.ndarray, " a"]]:
    """Place of the first match, average precision and inverse negative penalty from the distances of all matches.

    No sort: a match stands behind the nearer matches and all other sequences that are not farther. Of equal distances
    the wrong person comes first, so that a network that embeds everything alike finds nobody.
    """
    matched = np.isfinite(near)
    count = matched.sum(axis=1)
    places = np.zeros(near.shape, np.int64)
    for i in range(near.shape[1]):
        limit = near[:, i : i + 1]
        not_farther = np.count_nonzero(block <= limit, axis=1)
        own_not_farther = np.count_nonzero(near <= limit, axis=1)
        places[:, i] = i + 1 + not_farther - own_not_farther
    with np.errstate(invalid="ignore", divide="ignore"):
        ahead = np.arange(1, near.shape[1] + 1)
        precision = np.where(matched, ahead / places, 0).sum(axis=1) / count
        penalty = count / np.where(matched, places, 0).max(axis=1, initial=0)
    first = np.where(count > 0, places[:, 0], 0) if near.shape[1] else np.zeros(len(near), np.int64)
    return first, precision, penalty


def _histogram(distances: Float[np.ndarray, "a b"]) -> Int[np.ndarray, " bins"]:
    """Count distances by the leading bits of their float32, which order them; some rows at a time."""
    counts, step = np.zeros(BINS, np.int64), max((1 << 22) // max(distances.shape[1], 1), 1)
    for start in range(0, len(distances), step):
        bits = np.ascontiguousarray(distances[start : start + step]).reshape(-1).view(np.int32)
        counts += np.bincount(bits >> BITS, minlength=BINS)
    return counts


def _order(subjects: Shaped[np.ndarray, " b"], group: Int[np.ndarray, " b"] | None) -> Int[np.ndarray, " b"]:
    return np.lexsort((subjects,)) if group is None else np.lexsort((subjects, group))
