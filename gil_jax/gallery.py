"""People who are enrolled, in one file: who is it, and is it really them?"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.data.files import locked
from gil_jax.data.names import shorten
from gil_jax.enrolled import Enrolled, nearest_of_rows, nearest_people
from gil_jax.evaluation.distances import check_finite
from gil_jax.evaluation.store import load_embeddings, save_embeddings
from gil_jax.types import Embeddings, EmbeddingTable, Joined, RowsOf

INDEXES = ("exact", "usearch")
CANDIDATES = 10  # people, for each that is asked for, whose exact distances an approximate index looks at


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

    path: made by the first `enroll`. metric: "euclidean" (if empty) or "cosine"; the first `enroll` writes it into the
    file, and another one is refused from then on.
    index: "exact", or "usearch" for a graph in memory, which finds nearly always the same people in a large gallery.
    """

    def __init__(self, path: str | os.PathLike, metric: str = "", index: str = "exact"):
        if index not in INDEXES:
            raise ValueError(f"index={index!r}: choose one of {', '.join(INDEXES)}")
        self.path, self._metric, self._index = Path(path).expanduser(), metric, index
        self._cached: Enrolled | None = None

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
        embeddings: Shaped[np.ndarray, "*n p d"],
        network: str = "",
        labels: Sequence[str] = (),
    ) -> int:
        """Add sequences of a person; returns how many the person has now.

        embeddings: float32 or float16, as they are kept. network: the fingerprint of the model. labels: a name for each
        sequence, by default the next numbers; one that the person has already under this name is replaced. Raises
        ValueError for embeddings of another network or shape, or not finite.
        """
        return self.enroll_all({name: embeddings}, network, {name: list(labels)} if labels else {})[name]

    def enroll_all(
        self,
        people: dict[str, Shaped[np.ndarray, "*n p d"]],
        network: str = "",
        labels: dict[str, list[str]] | None = None,
    ) -> dict[str, int]:
        """Add sequences of several people with one write; see `enroll`."""
        arrays = {name: np.asarray(embeddings) for name, embeddings in people.items()}
        arrays = {name: array[None] if array.ndim == 2 else array for name, array in arrays.items()}
        for name, given in (labels or {}).items():
            if len(given) != len(arrays[name]):
                raise ValueError(f"{name}: {len(given)} labels for {len(arrays[name])} sequences")
        names = [name for name, array in arrays.items() for _ in range(len(array))]
        texts = [text for name, array in arrays.items() for text in (labels or {}).get(name) or [""] * len(array)]
        self.enroll_rows(names, Joined(list(arrays.values())), network, texts)
        held = self.people
        return {name: held.get(name, 0) for name in people}

    def enroll_rows(self, names: Sequence[str], embeddings: Embeddings, network: str, labels: Sequence[str]) -> None:
        """Add sequences, row by row of the person in `names`, with one write and in blocks; see `enroll`.

        embeddings: also memory-mapped; labels: "" for the next number of the person.
        """
        for name in sorted(set(names)):
            if not name or name != name.strip():
                raise ValueError(f"{name!r} is no name for a person: give one without spaces around it")
        check_finite(embeddings, [f"{name}/{label}" for name, label in zip(names, labels, strict=True)])
        with self._locked():
            old = self._load() if self.path.exists() else None
            if old:
                self._check_fits(old, embeddings.shape[1:], network)
            table = _joined(old.table if old else None, names, labels, embeddings)
            self._save(table, network or (old.about["network"] if old else ""))

    def forget(self, name: str) -> int:
        """Remove a person; returns how many sequences there were. Raises ValueError if nobody has that name."""
        with self._locked():
            held = self._load()
            kept = np.flatnonzero(held.table.subjects != name)
            removed = len(held.table.subjects) - len(kept)
            self._check_name(held, name)
            if len(kept):
                self._save(_rows(held.table, kept), held.about["network"])
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
        if k < 1:
            raise ValueError(f"--k={k}: give the number of people to find, 1 or more")
        held, embeddings = self._ready(embeddings, network)
        threshold = held.calibration.threshold(false_accept_rate)
        if self._index == "exact":
            nearest = [nearest_people(held.names, line, k) for line in held.to_people(embeddings)]
        else:
            # More sequences than people are asked for: those of one person are often neighbours.
            per_person = -(-len(held.table.subjects) // len(held.names))
            found = held.index.nearest(embeddings, CANDIDATES * k * per_person)
            nearest = [nearest_of_rows(held.table.subjects, *one, k) for one in found]
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
        self._check_name(held, name)
        threshold = held.calibration.pair_threshold(false_accept_rate)
        column = held.to_people(embeddings)[:, held.names.index(name)].tolist()
        return [(d <= threshold, Candidate(name, d, held.calibration.score(d))) for d in column]

    def check(self, network: str, name: str | None = None) -> None:
        """Raise ValueError where nobody is enrolled, by another network, or nobody of that name."""
        held = self._load()
        self._check_network(held, network)
        if name is not None:
            self._check_name(held, name)

    def _ready(
        self, embeddings: Float[np.ndarray, "*n p d"], network: str
    ) -> tuple[Enrolled, Float[np.ndarray, "k p d"]]:
        held = self._load()
        embeddings = np.asarray(embeddings, np.float32)
        embeddings = embeddings[None] if embeddings.ndim == 2 else embeddings
        check_finite(embeddings, [f"sequence {i}" for i in range(len(embeddings))])
        self._check_fits(held, embeddings.shape[1:], network)
        return held, embeddings

    def _load(self) -> Enrolled:
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: nobody is enrolled there: `python -m gil_jax enroll` makes the file")
        version = self._version()
        if self._cached is None or self._cached.version != version:
            table, about = load_embeddings(self.path)
            if about.get("kind") != "gallery":
                raise ValueError(
                    f"{self.path} holds embeddings, but is no gallery: `python -m gil_jax enroll` makes one"
                )
            # Replaced while it was read, the content is of a version that is not known: it will be read again.
            self._cached = Enrolled(self.path, table, about, version if version == self._version() else "")
        return self._cached

    def _version(self) -> str:
        stat = self.path.stat()
        return f"{stat.st_ino} {stat.st_mtime_ns} {stat.st_size}"

    def _save(self, table: EmbeddingTable, network: str) -> None:
        # Sorted by person, so that a person's sequences are neighbours.
        table = _rows(table, np.argsort(table.subjects, kind="stable"))
        metric = self._load().about["metric"] if self.path.exists() else self._metric or "euclidean"
        about = {"kind": "gallery", "network": network, "metric": metric}
        save_embeddings(self.path, table, table.embeddings, about)

    def _check_fits(self, held: Enrolled, shape: tuple[int, ...], network: str) -> None:
        wanted, metric = held.table.embeddings.shape[1:], held.about["metric"]
        if shape != wanted:
            raise ValueError(
                f"{self.path} holds embeddings {list(wanted)}, these are {list(shape)}: use the network that people "
                "were enrolled with"
            )
        if self._metric not in ("", metric):
            raise ValueError(f"{self.path} compares by {metric} distance, not {self._metric}: enroll in another file")
        self._check_network(held, network)

    def _check_network(self, held: Enrolled, network: str) -> None:
        if network and held.about["network"] and network != held.about["network"]:
            raise ValueError(
                f"{self.path} was enrolled with network {held.about['network']}, this one is {network}: use the same "
                "workdir and step, or enroll everybody again in another file"
            )

    def _locked(self) -> AbstractContextManager[None]:
        """Let one writer after the other change the file; readers see the old one or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_name(f".{self.path.name}.lock")
        return locked(lock, f"{self.path} is being written by another process: waiting for it")

    def _check_name(self, held: Enrolled, name: str) -> None:
        if name not in held.names:
            raise ValueError(f"{self.path}: nobody is called {name!r}; enrolled are {shorten(held.names)}")


def _joined(old: EmbeddingTable | None, names: Sequence[str], labels: Sequence[str], new: Embeddings) -> EmbeddingTable:
    """Add sequences to a table; one with the same name and label takes the place of the old one.

    A label that is empty becomes the person's next number.
    """
    held = [] if old is None else list(zip(old.subjects.tolist(), old.conditions.tolist(), strict=True))
    last: dict[str, int] = {}
    for name, label in (*held, *zip(names, labels, strict=True)):
        if label.isdecimal():
            last[name] = max(last.get(name, 0), int(label))
    given = []
    for name, label in zip(names, labels, strict=True):
        if not label:
            last[name] = last.get(name, 0) + 1
        given.append(label or str(last[name]))
    columns = [np.array(column, str) for column in (names, given, [""] * len(given))]
    if old is None:
        return EmbeddingTable(new, *columns)
    replaced = set(zip(names, given, strict=True))
    kept = _rows(old, np.array([i for i, pair in enumerate(held) if pair not in replaced], int))
    texts = [np.concatenate(both) for both in zip(kept[1:], columns, strict=True)]
    return EmbeddingTable(Joined([kept.embeddings, new]), *texts)


def _rows(table: EmbeddingTable, rows: Int[np.ndarray, " m"]) -> EmbeddingTable:
    """Take rows of a table; the embeddings are read when they are written."""
    return EmbeddingTable(RowsOf(table.embeddings, rows), *(column[rows] for column in table[1:]))
