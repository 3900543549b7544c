"""A 2-D map of embeddings (the paper's Figure 1): which sequences are drawn, and where."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.data.lookups import Labels
from gil_jax.evaluation.distances import LARGEST, part_distances

MOST_PEOPLE = 40
MOST_SEQUENCES = 1200
FEWEST = 5  # sequences that t-SNE is asked for; fewer are drawn by their principal components
SEED = 0


class Map(NamedTuple):
    """Positions of sequences on the map.

    positions: float [m, 2], centred. method: name of it. perplexity: None where t-SNE was not needed. nearest: for each
    sequence the one nearest to it by the distance of the evaluation, -1 where it is alone.
    """

    positions: Float[np.ndarray, "m 2"]
    method: str
    perplexity: float | None
    nearest: Int[np.ndarray, " m"]


def choose_sequences(
    table: Labels, people: int = MOST_PEOPLE, sequences: int = MOST_SEQUENCES
) -> Int[np.ndarray, " m"]:
    """Choose the rows that are drawn: a stratified sample, the same at every call.

    people: evenly spaced among the sorted subjects. sequences: shared out evenly, those of a person with fewer to the
    others; of each person all conditions and views come in about equal numbers.
    """
    every = np.unique(table.subjects)
    chosen = every[np.linspace(0, len(every) - 1, min(people, len(every))).astype(int)]
    members = [np.flatnonzero(table.subjects == person) for person in chosen]
    quota = _share(np.array([len(rows) for rows in members], np.int64), sequences)
    rng = np.random.default_rng(SEED)
    picked = [
        rows[_balance(table.conditions[rows], table.views[rows], number, rng)]
        for rows, number in zip(members, quota.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(picked)) if picked else np.zeros(0, np.int64)


def _share(sizes: Int[np.ndarray, " k"], total: int) -> Int[np.ndarray, " k"]:
    """Share a total out evenly, to nobody more than its size."""
    quota, left = np.zeros_like(sizes), min(total, int(sizes.sum()))
    for done, i in enumerate(np.argsort(sizes, kind="stable").tolist()):
        quota[i] = min(int(sizes[i]), left // (len(sizes) - done))
        left -= int(quota[i])
    return quota


def _balance(
    conditions: Shaped[np.ndarray, " n"], views: Shaped[np.ndarray, " n"], number: int, rng: np.random.Generator
) -> Int[np.ndarray, " number"]:
    """Pick sequences one after the other, always of the condition and view that were picked least; ties by lot."""
    if number == len(conditions):
        return np.arange(number)
    _, condition = np.unique(conditions, return_inverse=True)
    _, view = np.unique(views, return_inverse=True)
    by_condition, by_view = np.zeros(condition.max() + 1), np.zeros(view.max() + 1)
    order, free = rng.permutation(len(conditions)), np.ones(len(conditions), bool)
    picked = []
    for _ in range(number):
        left = order[free[order]]
        best = int(left[np.argmin(by_condition[condition[left]] + by_view[view[left]])])
        free[best] = False
        by_condition[condition[best]] += 1
        by_view[view[best]] += 1
        picked.append(best)
    return np.array(picked, np.int64)


def is_finite(embeddings: Shaped[np.ndarray, "m p d"]) -> Shaped[np.ndarray, " m"]:
    """Tell which embeddings have distances: no NaN, no infinity, nothing that `check_finite` refuses."""
    return np.all(np.abs(np.asarray(embeddings, np.float32)) <= LARGEST, axis=(1, 2))


def tsne_input(embeddings: Shaped[np.ndarray, "m p d"], metric: str) -> Float[np.ndarray, "m features"]:
    """Flatten embeddings so that distances rank sequences much as the evaluation does.

    "euclidean": parts as they are. "cosine": each part normalised, which orders pairs just as the mean cosine of the
    parts does.
    """
    rows = np.asarray(embeddings, np.float32)
    if metric == "cosine":
        rows = rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    rows = rows.reshape(len(rows), -1)
    centred = rows - rows.mean(axis=0)
    largest = float(np.abs(centred).max(initial=0))
    if largest <= 1e-6 * float(np.abs(rows).max(initial=0)):
        return np.zeros_like(centred)  # all embeddings are the same, up to rounding
    return centred / largest


def project(embeddings: Shaped[np.ndarray, "m p d"], metric: str = "euclidean") -> Map:
    """Lay finite embeddings out in the plane by t-SNE (van der Maaten and Hinton, JMLR 2008) after a PCA.

    At most 50 principal components are kept. The perplexity is 30, with fewer than 91 sequences a third of the others.
    Below five sequences two principal components are shown instead. The same embeddings give the same map.
    """
    count = len(embeddings)
    if count == 0:
        return Map(np.zeros((0, 2)), "none", None, np.zeros(0, np.int64))
    distances = part_distances(np.asarray(embeddings), np.asarray(embeddings), metric)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argmin(distances, axis=1) if count > 1 else np.array([-1])
    rows = tsne_input(embeddings, metric)
    components = _principal_components(rows, 50)
    if count < FEWEST or not np.any(components):
        return Map(_pad(components)[:, :2].astype(np.float64), "principal components", None, nearest)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (count - 1) / 3)
    start = _pad(components)[:, :2]
    start = start / start[:, 0].std() * 1e-4
    tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=SEED, max_iter=500)
    with threadpool_limits(1):  # threads that wait for each other take ten times as long where cores are busy
        positions = tsne.fit_transform(components.astype(np.float32)).astype(np.float64)
    return Map(positions - positions.mean(axis=0), "t-SNE", perplexity, nearest)


def _principal_components(rows: Float[np.ndarray, "m features"], most: int) -> Float[np.ndarray, "m k"]:
    """Coordinates along the leading principal components of centred rows, signs fixed."""
    if not np.any(rows):
        return np.zeros((len(rows), 0), np.float32)
    from sklearn.decomposition import PCA

    number = min(most, *rows.shape)
    solver = "full" if len(rows) <= 60 else "randomized"
    return PCA(number, svd_solver=solver, random_state=SEED).fit_transform(rows)


def _pad(components: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m columns"]:
    """Fill up to two columns with zeros."""
    return np.pad(components, ((0, 0), (0, max(2 - components.shape[1], 0))))
