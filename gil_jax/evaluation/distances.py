"""Distances between sequences, in blocks on the devices of this process."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Shaped

from gil_jax.data.names import shorten
from gil_jax.sharding import DATA, local_mesh, replicated, sharded_second_axis
from gil_jax.types import Embeddings

METRICS = ("euclidean", "cosine")
BLOCK = 2048  # gallery sequences on the devices at once, and the most probes
LARGEST = 1e17  # of a value; squares of larger ones overflow float32
KEPT_BYTES = 512 << 20  # a larger gallery does not stay on the devices: it is read again for each block of probes
ROWS_BYTES = 128 << 20  # distances of one block of probes to all of the gallery


class GalleryDistances:
    """Distances from probes to a gallery, which is prepared once: centred or normalised, and sharded over the devices.

    embeddings: float32 or float16 [b, p, d], also memory-mapped. metric: "euclidean" is the mean over parts of
    |x - y|, "cosine" the mean over parts of 1 - cos(x, y). Memory does not grow with the gallery: beyond KEPT_BYTES
    its blocks are prepared again for each block of probes. Raises ValueError for another metric.
    """

    def __init__(self, embeddings: Embeddings, metric: str = "euclidean", mesh: Mesh | None = None):
        if metric not in METRICS:
            raise ValueError(f"config.eval.metric={metric!r}: choose one of {METRICS}")
        self.embeddings, self.metric, self.mesh = embeddings, metric, mesh or local_mesh()
        # Distances stay the same when all embeddings are moved, and keep more digits near the origin.
        parts = embeddings.shape[1:]
        centre = np.mean(_blockwise_mean(embeddings), axis=0) if metric == "euclidean" and len(embeddings) else 0.0
        self.centre = jax.device_put(np.broadcast_to(np.float32(centre), parts), replicated(self.mesh))
        size = 4 * int(np.prod(embeddings.shape))
        self._kept = [self._prepare(s) for s in self._slices()] if size <= KEPT_BYTES else None

    def rows(self, probes: Embeddings) -> Iterator[tuple[slice, Float[np.ndarray, "n b"]]]:
        """Yield distances of some probes after the other to the gallery: (slice of the probes, float32 [n, b])."""
        step = int(np.clip(ROWS_BYTES // (4 * max(len(self.embeddings), 1)), 1, BLOCK))
        for start in range(0, len(probes), step):
            part = np.ascontiguousarray(probes[start : start + step])
            moved, norms = _prepare(jax.device_put(part, replicated(self.mesh)), self.centre, self.metric)
            result = np.empty((len(part), len(self.embeddings)), np.float32)
            blocks = self._kept if self._kept is not None else map(self._prepare, self._slices())
            for place, block in zip(self._slices(), blocks, strict=True):
                distances = np.asarray(_distances(moved, norms, *block, self.metric))
                result[:, place] = distances[:, : place.stop - place.start]
            yield slice(start, start + len(part)), result

    def nearest(self, probes: Embeddings, k: int) -> tuple[Int[np.ndarray, "a k"], Float[np.ndarray, "a k"]]:
        """Find the k nearest gallery sequences of each probe, nearest first: (rows of the gallery, distances)."""
        k = min(k, len(self.embeddings))
        found, distances = np.zeros((len(probes), k), np.int64), np.zeros((len(probes), k), np.float32)
        for place, block in self.rows(probes):
            found[place], distances[place] = smallest(block, k)
        return found, distances

    def _slices(self) -> list[slice]:
        count = len(self.embeddings)
        return [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]

    def _prepare(self, place: slice) -> tuple[Array, Array]:
        part = self.embeddings[place]
        filling = -len(part) % self.mesh.shape[DATA]
        part = np.pad(part, ((0, filling), (0, 0), (0, 0)))
        by_parts = jax.device_put(np.swapaxes(part, 0, 1), sharded_second_axis(self.mesh))
        return _prepare_by_parts(by_parts, self.centre, self.metric)


def smallest(distances: Float[np.ndarray, "a b"], k: int) -> tuple[Int[np.ndarray, "a k"], Float[np.ndarray, "a k"]]:
    """Pick the k smallest of each row, smallest first, equal ones by their place: (columns, values)."""
    nearest = np.sort(np.argpartition(distances, k - 1, axis=1)[:, :k], axis=1) if k < distances.shape[1] else None
    if nearest is None:
        nearest = np.broadcast_to(np.arange(distances.shape[1]), distances.shape)
    order = np.argsort(np.take_along_axis(distances, nearest, 1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, 1)
    return nearest, np.take_along_axis(distances, nearest, 1)


def part_distances(
    probes: Shaped[np.ndarray, "a p d"], gallery: Shaped[np.ndarray, "b p d"], metric: str = "euclidean"
) -> Float[np.ndarray, "a b"]:
    """Compute the distance of every probe to every gallery sequence, the mean over parts; metric: one of METRICS."""
    blocks = [block for _, block in GalleryDistances(gallery, metric).rows(probes)]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(gallery)), np.float32)


def check_finite(embeddings: Embeddings, names: list[str], what: str = "embeddings") -> None:
    """Raise ValueError that names the sequences whose embedding holds NaN, infinity or a value of 1e17 or more."""
    wrong = []
    for start in range(0, len(embeddings), BLOCK):
        block = np.asarray(embeddings[start : start + BLOCK])
        finite = (np.abs(block) <= min(LARGEST, float(np.finfo(block.dtype.type).max))).all(axis=(1, 2))
        wrong += [names[start + i] for i in np.flatnonzero(~finite)]
    if wrong:
        raise ValueError(
            f"{len(wrong):,} of {len(embeddings):,} {what} are not finite (NaN, infinity or above {LARGEST:g}): "
            f"{shorten(wrong)}. Distances to them mean nothing: look for weights that are not finite, or compute the "
            "embeddings in float32"
        )


def _blockwise_mean(embeddings: Embeddings) -> Float[np.ndarray, "1 p d"]:
    total = np.zeros((1, *embeddings.shape[1:]), np.float64)
    for start in range(0, len(embeddings), BLOCK):
        total += np.sum(embeddings[start : start + BLOCK], axis=0, dtype=np.float64)
    return total / len(embeddings)


@partial(jax.jit, static_argnames="metric")
def _prepare(
    embeddings: Shaped[Array, "n p d"], centre: Float[Array, "p d"], metric: str
) -> tuple[Float[Array, "p n d"], Float[Array, "p n"]]:
    return _prepare_by_parts(jnp.swapaxes(embeddings, 0, 1), centre, metric)


@partial(jax.jit, static_argnames="metric")
def _prepare_by_parts(
    embeddings: Shaped[Array, "p n d"], centre: Float[Array, "p d"], metric: str
) -> tuple[Float[Array, "p n d"], Float[Array, "p n"]]:
    moved = embeddings.astype(jnp.float32)
    if metric == "euclidean":
        moved = moved - centre[:, None]
        return moved, jnp.sum(moved * moved, axis=-1)
    norms = jnp.linalg.norm(moved, axis=-1)
    return moved / jnp.maximum(norms, 1e-12)[..., None], norms


@partial(jax.jit, static_argnames="metric")
def _distances(
    x: Float[Array, "p a d"],
    x_norms: Float[Array, "p a"],
    y: Float[Array, "p b d"],
    y_norms: Float[Array, "p b"],
    metric: str,
) -> Float[Array, "a b"]:
    """Sum over parts one after the other, so that no more than one [a, b] is held."""

    def add_part(total, part):
        x, x_norms, y, y_norms = part
        inner = jnp.matmul(x, y.T, precision="highest")
        if metric == "cosine":
            return total + (1.0 - inner), None
        squared = x_norms[:, None] + y_norms[None, :] - 2.0 * inner
        return total + jnp.sqrt(jnp.maximum(squared, 0.0)), None

    zero = jnp.zeros((x.shape[1], y.shape[1]), jnp.float32)
    total, _ = jax.lax.scan(add_part, zero, (x, x_norms, y, y_norms))
    return jnp.maximum(total / x.shape[0], 0.0)
