"""The people of a gallery file in memory: distances to them, scores and thresholds."""

import contextlib
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.data.files import write_atomically
from gil_jax.evaluation.calibration import Calibration, calibrate
from gil_jax.evaluation.distances import GalleryDistances
from gil_jax.evaluation.index import ApproximateIndex
from gil_jax.types import EmbeddingTable

CALIBRATED_ON = 1000  # enrolled sequences at most, evenly spread, from which scores and thresholds are set


class Enrolled:
    """The content of a gallery file, ready to look people up in. version: tells this content from later ones."""

    def __init__(self, path: Path, table: EmbeddingTable, about: dict, version: str):
        self.path, self.table, self.about, self.version = path, table, about, version
        names, starts = np.unique(table.subjects, return_index=True)
        self.names, self.starts = names.tolist(), starts
        self._distances: GalleryDistances | None = None
        self._calibration: Calibration | None = None
        self._index: ApproximateIndex | None = None

    @property
    def distances(self) -> GalleryDistances:
        """Prepared when somebody is looked up first."""
        if self._distances is None:
            self._distances = GalleryDistances(self.table.embeddings, self.about["metric"])
        return self._distances

    @property
    def index(self) -> ApproximateIndex:
        """Built when somebody is looked up first."""
        if self._index is None:
            self._index = ApproximateIndex(self.table.embeddings, self.about["metric"])
        return self._index

    def to_people(self, embeddings: Float[np.ndarray, "n p d"]) -> Float[np.ndarray, "n m"]:
        """Distance of every sequence to every person: to the person's nearest sequence."""
        blocks = [np.minimum.reduceat(block, self.starts, axis=1) for _, block in self.distances.rows(embeddings)]
        return np.concatenate(blocks)

    @property
    def calibration(self) -> Calibration:
        """Read from the file beside the gallery where it fits, else computed and kept there."""
        if self._calibration is None:
            beside = self.path.with_name(f".{self.path.name}.calibration.json")
            kept = {}
            with contextlib.suppress(OSError, ValueError):
                kept = json.loads(beside.read_text(encoding="utf-8"))
            if kept.get("of") != self.version:
                picked = np.unique(np.linspace(0, len(self.table.subjects) - 1, CALIBRATED_ON).astype(int))
                found = calibrate(self.distances, self.table.subjects, picked)
                kept = {"of": self.version, **found._asdict()}
                with contextlib.suppress(OSError):  # a folder that can't be written is asked again next time
                    write_atomically(beside, json.dumps(kept))
            del kept["of"]
            self._calibration = Calibration(**kept)
        return self._calibration


def nearest_people(names: list[str], distances: Float[np.ndarray, " m"], k: int) -> list[tuple[str, float]]:
    """Pick the k nearest people: (name, distance), nearest first."""
    return [(names[i], float(distances[i])) for i in np.argsort(distances, kind="stable")[:k]]


def nearest_of_rows(
    subjects: Shaped[np.ndarray, " n"], rows: Int[np.ndarray, " m"], distances: Float[np.ndarray, " m"], k: int
) -> list[tuple[str, float]]:
    """Pick the k nearest people among some sequences: (name, distance), nearest first."""
    people: dict[str, float] = {}
    for i in np.argsort(distances, kind="stable"):
        people.setdefault(str(subjects[rows[i]]), float(distances[i]))
    return list(people.items())[:k]
