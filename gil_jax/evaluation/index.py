"""Approximate search in a large gallery by usearch: few candidates, whose distances are then exact."""

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.evaluation.distances import BLOCK, part_distances
from gil_jax.types import Embeddings, RowsOf


class ApproximateIndex:
    """A graph of neighbours (Malkov and Yashunin, TPAMI 2020) over the embeddings, all parts in one vector.

    For "cosine" the parts are normalised first, and the order of the candidates is the exact one; for "euclidean" the
    distance of the whole vectors stands in for the mean over parts. Raises ImportError without usearch.
    """

    def __init__(self, embeddings: Embeddings, metric: str):
        try:
            from usearch.index import Index
        except ImportError as error:
            raise ImportError("an approximate index needs usearch: pip install 'gil_jax[index]'") from error
        self.embeddings, self.metric = embeddings, metric
        self._index = Index(ndim=int(np.prod(embeddings.shape[1:])), metric="l2sq", dtype="f16")
        for start in range(0, len(embeddings), BLOCK):
            part = self._vectors(embeddings[start : start + BLOCK])
            self._index.add(np.arange(start, start + len(part)), part)

    def nearest(
        self, probes: Float[np.ndarray, "n p d"], count: int
    ) -> list[tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]]:
        """Find about `count` nearest rows of each probe: (rows, exact distances)."""
        found = self._index.search(self._vectors(probes), min(count, len(self.embeddings)))
        result = []
        for probe, keys in zip(probes, np.atleast_2d(found.keys), strict=True):
            rows = keys.astype(np.int64)
            distances = part_distances(probe[None], RowsOf(self.embeddings, rows)[:], self.metric)[0]
            result.append((rows, distances))
        return result

    def _vectors(self, embeddings: Shaped[np.ndarray, "n p d"]) -> Float[np.ndarray, "n pd"]:
        values = np.asarray(embeddings, np.float32)
        if self.metric == "cosine":
            values = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
        return values.reshape(len(values), -1)
