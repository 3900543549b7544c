"""People who are enrolled, in one file: who is it, and is it really them?"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.data.files import write_atomically
from gil_jax.evaluation.calibration import Calibration, calibrate
from gil_jax.evaluation.distances import GalleryDistances, check_finite
from gil_jax.evaluation.index import ApproximateIndex
from gil_jax.evaluation.store import load_embeddings, save_embeddings
from gil_jax.types import EmbeddingTable

INDEXES = ("exact", "usearch")
CANDIDATES = 10  # people, for each that is asked for, whose exact distances an approximate index looks at
CALIBRATED_ON = 1000  # enrolled sequences at most, evenly spread, from which scores and thresholds are set


class Candidate(NamedTuple):
    """An enrolled person: distance of the nearest sequence; score: probability that it is the same person, or None.

    There is no score before somebody is enrolled with two sequences.
    """

    name: str
    distance: float
    score: float | None


class Identification(NamedTuple):
    """Answer to "who is it?": name is None for somebody unknown; candidates: the nearest people, nearest first.

    threshold: the distance up to which the nearest person is believed.
    """

    name: str | None
    candidates: list[Candidate]
    threshold: float


class Gallery:
    """A file of enrolled people, written as a whole or not at all; writers wait for each other.

    path: made by the first `enroll`. metric: "euclidean" or "cosine", kept in the file from the first `enroll` on.
    index: "exact", or "usearch" for a graph in memory, which finds nearly always the same people in a large gallery.
    """

    def __init__(self, path: str | os.PathLike, metric: str = "euclidean", index: str = "exact"):
        if index not in INDEXES:
            raise ValueError(f"index={index!r}: choose one of {', '.join(INDEXES)}")
        self.path, self._metric, self._index = Path(path).expanduser(), metric, index
        self._cached: tuple[tuple, _Enrolled] | None = None

    @property
    def people(self) -> dict[str, int]:
        """Names of the enrolled people and the numbers of their sequences."""
        if not self.path.exists():
            return {}
        names, counts = np.unique(self._load().table.subjects, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def enroll(
        self,
        name: str,
        embeddings: Float[np.ndarray, "*n p d"],
        network: str = "",
        labels: Sequence[str] = (),
    ) -> int:
        """Add sequences of a person; returns how many the person has now.

        network: the fingerprint of the model. labels: a name for each sequence; one that the person has already under
        this name is replaced. Raises ValueError for embeddings of another network or shape, or not finite.
        """
        return self.enroll_all({name: embeddings}, network, {name: list(labels)} if labels else {})[name]

    def enroll_all(
        self,
        people: dict[str, Float[np.ndarray, "*n p d"]],
        network: str = "",
        labels: dict[str, list[str]] | None = None,
    ) -> dict[str, int]:
        """Add sequences of several people with one write; see `enroll`."""
        with self._locked():
            old = self._load() if self.path.exists() else None
            columns: list[list[str]] = [[], []]
            added = []
            for name, embeddings in people.items():
                if not name or name != name.strip():
                    raise ValueError(f"{name!r} is no name for a person: give one without spaces around it")
                embeddings = np.asarray(embeddings, np.float32)
                embeddings = embeddings[None] if embeddings.ndim == 2 else embeddings
                count = len(old.table.subjects) if old else 0
                given = (labels or {}).get(name) or [f"{count + len(columns[0]) + i}" for i in range(len(embeddings))]
                if len(given) != len(embeddings):
                    raise ValueError(f"{name}: {len(given)} labels for {len(embeddings)} sequences")
                check_finite(embeddings, [f"{name}/{label}" for label in given])
                columns[0] += [name] * len(embeddings)
                columns[1] += given
                added.append(embeddings)
            new = np.concatenate(added)
            if old:
                self._check_fits(old, new, network)
            table = _joined(old.table if old else None, columns, new)
            self._save(table, network or (old.about["network"] if old else ""))
        names, counts = np.unique(table.subjects, return_counts=True)
        held = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return {name: held[name] for name in people}

    def forget(self, name: str) -> int:
        """Remove a person; returns how many sequences there were. Raises ValueError if nobody has that name."""
        with self._locked():
            held = self._load()
            kept = np.flatnonzero(held.table.subjects != name)
            removed = len(held.table.subjects) - len(kept)
            if not removed:
                raise ValueError(f"{self.path}: nobody is called {name!r}; enrolled are {self._some_people(held)}")
            if len(kept):
                self._save(EmbeddingTable(*(column[kept] for column in held.table)), held.about["network"])
            else:
                self.path.unlink()
        return removed

    def identify(
        self, embeddings: Float[np.ndarray, "*n p d"], k: int = 5, false_accept_rate: float = 0.01, network: str = ""
    ) -> list[Identification]:
        """Find the k nearest people for each sequence, or nobody.

        false_accept_rate: share of strangers that may be taken for somebody; it sets the threshold, from each enrolled
        sequence's distance to the other people. network: the fingerprint of the model, checked if it is given. Raises
        ValueError for embeddings of another network or shape, or not finite.
        """
        held, embeddings = self._ready(embeddings, network)
        threshold = held.calibration.threshold(false_accept_rate)
        if self._index == "exact":
            nearest = [_nearest(held.names, line, k) for line in held.to_people(embeddings)]
        else:
            # More sequences than people are asked for: those of one person are often neighbours.
            per_person = -(-len(held.table.subjects) // len(held.names))
            found = held.index.nearest(embeddings, CANDIDATES * k * per_person)
            nearest = [_nearest_of_rows(held.table.subjects, *one, k) for one in found]
        result = []
        for people in nearest:
            candidates = [Candidate(name, distance, held.calibration.score(distance)) for name, distance in people]
            best = candidates[0]
            result.append(Identification(best.name if best.distance <= threshold else None, candidates, threshold))
        return result

    def verify(
        self, name: str, embeddings: Float[np.ndarray, "*n p d"], false_accept_rate: float = 0.01, network: str = ""
    ) -> list[tuple[bool, Candidate]]:
        """Tell for each sequence whether it is of that person: (accepted, the person with distance and score)."""
        held, embeddings = self._ready(embeddings, network)
        if name not in held.names:
            raise ValueError(f"{self.path}: nobody is called {name!r}; enrolled are {self._some_people(held)}")
        threshold = held.calibration.pair_threshold(false_accept_rate)
        column = held.to_people(embeddings)[:, held.names.index(name)].tolist()
        return [(d <= threshold, Candidate(name, d, held.calibration.score(d))) for d in column]

    def _ready(
        self, embeddings: Float[np.ndarray, "*n p d"], network: str
    ) -> tuple["_Enrolled", Float[np.ndarray, "k p d"]]:
        held = self._load()
        embeddings = np.asarray(embeddings, np.float32)
        embeddings = embeddings[None] if embeddings.ndim == 2 else embeddings
        check_finite(embeddings, [f"sequence {i}" for i in range(len(embeddings))])
        self._check_fits(held, embeddings, network)
        return held, embeddings

    def _load(self) -> "_Enrolled":
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: nobody is enrolled there: `python -m gil_jax enroll` makes the file")
        stat = self.path.stat()
        version = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._cached is None or self._cached[0] != version:
            table, about = load_embeddings(self.path)
            if about.get("kind") != "gallery":
                raise ValueError(
                    f"{self.path} holds embeddings, but is no gallery: `python -m gil_jax enroll` makes one"
                )
            self._cached = (version, _Enrolled(self.path, table, about))
        return self._cached[1]

    def _save(self, table: EmbeddingTable, network: str) -> None:
        # Sorted by person, so that a person's sequences are neighbours.
        order = np.argsort(table.subjects, kind="stable")
        table = EmbeddingTable(*(column[order] for column in table))
        metric = self._load().about["metric"] if self.path.exists() else self._metric
        about = {"kind": "gallery", "network": network, "metric": metric}
        save_embeddings(self.path, table, table.embeddings, about)

    def _check_fits(self, held: "_Enrolled", embeddings: Float[np.ndarray, "*n p d"], network: str) -> None:
        shape = held.table.embeddings.shape[1:]
        if embeddings.shape[1:] != shape:
            raise ValueError(
                f"{self.path} holds embeddings {list(shape)}, these are {list(embeddings.shape[1:])}: use the network "
                "that people were enrolled with"
            )
        if network and held.about["network"] and network != held.about["network"]:
            raise ValueError(
                f"{self.path} was enrolled with network {held.about['network']}, this one is {network}: use the same "
                "workdir and step, or enroll everybody again in another file"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one writer after the other change the file; readers see the old one or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(f".{self.path.name}.lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _some_people(self, held: "_Enrolled") -> str:
        return ", ".join(held.names[:8]) + (" ..." if len(held.names) > 8 else "")


class _Enrolled:
    """What a gallery file holds, ready to look people up in."""

    def __init__(self, path: Path, table: EmbeddingTable, about: dict):
        self.path, self.table, self.about = path, table, about
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
            stat = self.path.stat()
            stamp = f"{stat.st_mtime_ns} {stat.st_size}"
            kept = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
            if kept.get("of") != stamp:
                picked = np.unique(np.linspace(0, len(self.table.subjects) - 1, CALIBRATED_ON).astype(int))
                found = calibrate(self.distances, self.table.subjects, picked)
                kept = {"of": stamp, **found._asdict()}
                with contextlib.suppress(OSError):  # a folder that can't be written is asked again next time
                    write_atomically(beside, json.dumps(kept))
            del kept["of"]
            self._calibration = Calibration(**kept)
        return self._calibration


def _nearest(names: list[str], distances: Float[np.ndarray, " m"], k: int) -> list[tuple[str, float]]:
    return [(names[i], float(distances[i])) for i in np.argsort(distances, kind="stable")[:k]]


def _nearest_of_rows(
    subjects: Shaped[np.ndarray, " n"], rows: Int[np.ndarray, " m"], distances: Float[np.ndarray, " m"], k: int
) -> list[tuple[str, float]]:
    """The nearest people among some sequences."""
    people: dict[str, float] = {}
    for i in np.argsort(distances, kind="stable"):
        people.setdefault(str(subjects[rows[i]]), float(distances[i]))
    return list(people.items())[:k]


def _joined(old: EmbeddingTable | None, columns: list[list[str]], new: Float[np.ndarray, "n p d"]) -> EmbeddingTable:
    """Add sequences to a table; one with the same name and label takes the place of the old one."""
    names, labels = (np.array(column, str) for column in columns)
    nothing = np.full(len(names), "", str)
    if old is None:
        return EmbeddingTable(new, names, labels, nothing)
    replaced = set(zip(*columns, strict=True))
    pairs: Sequence[tuple[str, str]] = list(zip(old.subjects.tolist(), old.conditions.tolist(), strict=True))
    kept = np.array([i for i, pair in enumerate(pairs) if pair not in replaced], int)
    parts: list[Shaped[np.ndarray, ...]] = [old.subjects[kept], old.conditions[kept], old.views[kept]]
    texts = [np.concatenate(both) for both in zip(parts, (names, labels, nothing), strict=True)]
    return EmbeddingTable(np.concatenate([old.embeddings[kept], new]), *texts)
