"""k-reciprocal re-ranking (Zhong et al., CVPR 2017): neighbours that see each other count more."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from gil_jax.evaluation.distances import GalleryDistances, smallest
from gil_jax.types import Embeddings

MOST = 20_000  # sequences; three matrices of N x N are held


def rerank(
    distance: Float[np.ndarray, "n n"], queries: int, k1: int, k2: int, weight: float
) -> Float[np.ndarray, "q g"]:
    """Re-rank a square distance matrix whose first `queries` rows are probes, the others the gallery.

    k1: neighbours that have to be mutual; k2: neighbours that a row is averaged over; weight: lambda of the paper, the
    share of the original distance. Returns (1 - weight) * Jaccard distance + weight * distance, each row of the
    distances divided by its maximum first. A set of mutual neighbours grows by the neighbours' own sets of half the
    size, where more than two thirds of such a set are in it already.
    """
    scaled = (distance / np.maximum(distance.max(axis=0, keepdims=True), 1e-30)).T
    count = len(scaled)
    if not (k1 >= 1 and k2 >= 1 and 0 <= weight <= 1):
        raise ValueError(f"config.eval.rerank=({k1}, {k2}, {weight}): k1 and k2 are at least 1, lambda is 0 to 1")
    near, _ = smallest(scaled, min(max(k1 + 1, k2), count))
    mutual, half = _mutual(near, k1), _mutual(near, round(k1 / 2))
    weights = np.zeros_like(scaled, np.float32)
    for i in range(count):
        members = np.flatnonzero(mutual[i])
        grown = mutual[i].copy()
        for candidate in members:
            if np.count_nonzero(half[candidate] & mutual[i]) > 2 / 3 * np.count_nonzero(half[candidate]):
                grown |= half[candidate]
        picked = np.flatnonzero(grown)
        kernel = np.exp(-scaled[i, picked])
        weights[i, picked] = kernel / kernel.sum()
    if k2 > 1:
        weights = np.stack([weights[near[i, :k2]].mean(axis=0) for i in range(count)])
    result = weight * scaled[:queries, queries:]
    gallery = weights[queries:]
    for i in range(queries):
        shared_columns = np.flatnonzero(weights[i])
        shared = np.minimum(weights[i, shared_columns], gallery[:, shared_columns]).sum(axis=1)
        result[i] += (1 - weight) * (1 - shared / (2 - shared))
    return result.astype(np.float32)


def rerank_rows(
    probes: Embeddings, gallery: GalleryDistances, k1: int, k2: int, weight: float
) -> Iterator[tuple[slice, Float[np.ndarray, "a b"]]]:
    """Yield the re-ranked distances of all probes, as `GalleryDistances.rows` does."""
    queries, count = len(probes), len(probes) + len(gallery.embeddings)
    if count > MOST:
        raise ValueError(f"config.eval.rerank compares {count:,} sequences with each other, at most {MOST:,} can be")
    if not queries or queries == count:
        yield from gallery.rows(probes)
        return
    every = np.concatenate([probes[:], gallery.embeddings[:]])
    square = [block for _, block in GalleryDistances(every, gallery.metric, gallery.mesh).rows(every)]
    yield slice(0, queries), rerank(np.concatenate(square), queries, k1, k2, weight)


def _mutual(near: Int[np.ndarray, "n k"], k: int) -> Bool[np.ndarray, "n n"]:
    """Tell which rows are among each other's k + 1 nearest, themselves included."""
    among = np.zeros((len(near), len(near)), bool)
    np.put_along_axis(among, near[:, : k + 1], True, axis=1)
    return among & among.T
