"""The values that travel through the system, and the letters of their axes.

n sequences, s frames, h rows, w columns, c channels, p parts, d features, k classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped


class Batch(NamedTuple):
    """A padded batch of silhouette sequences, as it travels to the devices.

    silhouettes: uint8 [n, s, h, w], white body (255) on black; scaled to [0, 1] on the device.
    frame_mask: bool [n, s], False on padding. Real frames come first; every row has at least one.
    labels: int32 [n], the class of the subject; -1 for a row that only fills the batch up.
    """

    silhouettes: Any
    frame_mask: Any
    labels: Any


class ModelOutput(NamedTuple):
    """Output of every network: embeddings float32 [n, p, d]; logits float32 [n, p, k] or None."""

    embeddings: Any
    logits: Any = None


class RowsOf:
    """Some rows of an array, read when they are asked for, so that nothing of a memory-mapped one is copied before."""

    def __init__(self, array: "Embeddings", rows: Int[np.ndarray, " m"]):
        self.array, self.rows, self.shape = array, rows, (len(rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: slice | Int[np.ndarray, " k"]) -> Shaped[np.ndarray, "k p d"]:
        """Read some of the rows."""
        return np.asarray(self.array[self.rows[place]])


class Joined:
    """Arrays [_, p, d] one after the other, read when rows are asked for; all in the widest of their types."""

    def __init__(self, arrays: "Sequence[Embeddings]"):
        self.arrays = [array for array in arrays if len(array)] or list(arrays[:1])
        if len(shapes := {array.shape[1:] for array in self.arrays}) != 1:
            raise ValueError(f"embeddings of different shapes: {', '.join(map(str, sorted(shapes)))}")
        self.ends = np.cumsum([len(array) for array in self.arrays])
        self.shape = (int(self.ends[-1]), *self.arrays[0].shape[1:])
        self.dtype = np.result_type(*(array[:1].dtype for array in self.arrays))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: slice | Int[np.ndarray, " k"]) -> Shaped[np.ndarray, "k p d"]:
        """Read some of the rows."""
        rows = np.arange(len(self))[place] if isinstance(place, slice) else place
        result = np.empty((len(rows), *self.shape[1:]), self.dtype)
        owner = np.searchsorted(self.ends, rows, side="right")
        for i in np.unique(owner).tolist():
            mine = np.flatnonzero(owner == i)
            array = self.arrays[i]
            result[mine] = array[rows[mine] - (self.ends[i] - len(array))]
        return result


Embeddings = Shaped[np.ndarray, "n p d"] | RowsOf | Joined


class EmbeddingTable(NamedTuple):
    """The embeddings of a split with their labels, one row a sequence.

    embeddings: float32 or float16 [n, p, d], also memory-mapped, or rows of such an array; subjects, conditions, views:
    str [n], e.g. "001", "nm-01", "090".
    """

    embeddings: Embeddings
    subjects: Shaped[np.ndarray, " n"]
    conditions: Shaped[np.ndarray, " n"]
    views: Shaped[np.ndarray, " n"]
