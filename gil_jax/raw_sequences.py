"""Sequences of silhouettes as users have them, read and aligned when they are asked for. data_prep is imported late."""

import hashlib
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped, UInt8

from gil_jax.data.names import compose, shorten
from gil_jax.data.source import SequenceTable

if TYPE_CHECKING:
    from data_prep.units import Unit

ON_ERROR = ("stop", "skip")


class RawSequences(ABC):
    """Sequences that are read and aligned when they are asked for; `embed_split` takes them as a source.

    names: paths, which give the labels; lengths: the most frames that each may have. height: of the aligned frames.
    fingerprint: of the data, without reading them; dataset: their name. on_error: "stop" at what can't be read, or
    "skip" it. left_out: rows that turned out to show nobody, or were skipped; they give one black frame. faults: what
    was skipped, place -> reason.
    """

    def __init__(
        self, names: Sequence[str], lengths: Sequence[int], height: int, fingerprint: str, dataset: str, on_error: str
    ):
        self.height, self.fingerprint, self.dataset, self._on_error = height, fingerprint, dataset, on_error
        self.names = [compose(name) for name in names]
        self.table = _table(self.names, [max(length, 1) for length in lengths])
        self.left_out: set[int] = set()
        self.faults: dict[str, str] = {}

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]:
        """Read and align a sequence. Raises ValueError that names what can't be read, unless it is skipped."""
        from data_prep.frames import align_sequence

        pictures = self._pictures(index)
        frames = np.zeros((0, self.height, self.height), np.uint8)
        try:
            frames = align_sequence(pictures, self.height)
        except ValueError as error:
            self._refuse(self.names[index], error)
        if len(frames):
            return frames
        self.left_out.add(index)
        return np.zeros((1, self.height, self.height), np.uint8)

    @abstractmethod
    def _pictures(self, index: int) -> list[Any]:
        """Read the pictures of a sequence, as `data_prep.frames.align_sequence` takes them."""

    def _refuse(self, place: str, error: Exception) -> None:
        """Note what can't be read, or raise ValueError that names it."""
        reason = str(getattr(error, "strerror", None) or error)
        if self._on_error == "stop":
            raise ValueError(f"{place}: {reason}. {FIX}") from error
        self.faults[place] = reason


FIX = "Mend or remove it, or give --on_error=skip to leave out what is faulty"


class FileSequences(RawSequences):
    """Sequences in folders of pictures and in files (npy, npz, pickle), found by `data_prep.walk`.

    units: one a sequence; root: the folder that was walked. The fingerprint is of names, sizes and times of the files.
    """

    def __init__(self, root: Path, units: Sequence["Unit"], height: int, on_error: str = "stop"):
        # Paths of millions of pictures would not fit into the memory: the names of a unit are one string.
        self._units = units
        names = ["/".join(_levels(unit)) or root.resolve().name for unit in units]
        digest = hashlib.sha256(str(height).encode())
        for unit, name in zip(units, names, strict=True):
            for file in unit.names.split("/"):
                stat = os.stat(os.path.join(unit.folder, file))
                digest.update(f"{name}/{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        super().__init__(names, [1] * len(units), height, digest.hexdigest()[:32], root.resolve().name, on_error)
        self.table.lengths[:] = [max(self._length(unit), 1) for unit in units]

    def _length(self, unit: "Unit") -> int:
        if not unit.is_file:
            return unit.names.count("/") + 1
        return len(self._decode(unit, unit.names))

    def _pictures(self, index: int) -> list[Any]:
        unit = self._units[index]
        return [picture for name in unit.names.split("/") for picture in self._decode(unit, name)]

    def _decode(self, unit: "Unit", name: str) -> list[Any]:
        from data_prep.archives import open_regular
        from data_prep.frames import decode_file

        path = os.path.join(unit.folder, name)
        try:
            with open_regular(path) as file:
                return decode_file(name, file.read())
        except (ValueError, OSError) as error:
            self._refuse(path, error)
            return []


class ArrayFile(RawSequences):
    """Sequences of an npy [s, h, w], or of an npz of such arrays, uint8 or bool; one array is read at a time.

    Raises ValueError that names the file or the array where it is something else.
    """

    def __init__(self, path: Path, height: int, on_error: str = "stop"):
        self._path = path
        try:
            headers = _headers(path)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"--data={path}: not an array file that can be read ({error})") from error
        if not headers:
            raise ValueError(f"--data={path}: holds no arrays")
        for name, (shape, dtype) in headers.items():
            if len(shape) != 3 or dtype not in (np.dtype(np.uint8), np.dtype(bool)):
                raise ValueError(f"{path}, {name}: silhouettes are uint8 [s, h, w], not {dtype} {list(shape)}")
        stat = path.stat()
        fingerprint = hashlib.sha256(f"{height} {path.name} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()
        lengths = [shape[0] for shape, _ in headers.values()]
        super().__init__([*headers], lengths, height, fingerprint[:32], path.stem, on_error)
        self._keys = [*headers]

    def _pictures(self, index: int) -> list[Any]:
        try:
            with open(self._path, "rb") as file:
                content = np.load(file, allow_pickle=False)
                array = content[self._keys[index]] if isinstance(content, np.lib.npyio.NpzFile) else content
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            self._refuse(f"{self._path}, {self._keys[index]}", error)
            return []
        return list(array.astype(np.uint8, copy=False))


class ArraySequences:
    """Aligned sequences in memory, as `embed_split` takes a source."""

    left_out: frozenset[int] = frozenset()
    faults: dict[str, str] = {}  # noqa: RUF012, nothing is ever skipped
    dataset = "arrays"

    def __init__(self, sequences: Sequence[UInt8[np.ndarray, "_ h h"]], height: int, names: Sequence[str] = ()):
        self.height, self._sequences = height, sequences
        self.names = list(names) or [f"{i}" for i in range(len(sequences))]
        self.table = _table(self.names, [len(s) for s in sequences])
        digest = hashlib.sha256()
        for name, sequence in zip(self.names, sequences, strict=True):
            digest.update(f"{name} {sequence.shape} ".encode() + sequence.tobytes())
        self.fingerprint = digest.hexdigest()[:32]

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]:
        """Return a sequence."""
        return self._sequences[index]


def align(silhouettes: Shaped[np.ndarray, "..."], height: int, name: str) -> UInt8[np.ndarray, "s height height"]:
    """Align raw silhouettes uint8 [s, h, w], or take aligned ones; frames without a person are dropped.

    Raises ValueError that names the sequence where nothing is left, or the array is none of silhouettes.
    """
    from data_prep.frames import align_sequence

    array = np.asarray(silhouettes)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim != 3 or array.dtype != np.uint8:
        raise ValueError(f"{name}: silhouettes are uint8 [s, h, w], not {array.dtype} {list(array.shape)}")
    try:
        frames = align_sequence(list(array), height)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not len(frames):
        raise ValueError(f"{name}: no frame with a person in it; a silhouette is a white body (255) on black")
    return frames


def labels_of(name: str) -> tuple[str, str, str]:
    """Name subject, condition and view by a path: its first, middle and last folder; "000" where there is none."""
    parts = name.split("/")
    parts += ["000"] * (3 - len(parts))
    return parts[0], "-".join(parts[1:-1]), parts[-1]


def describe_left_out(source: Any) -> list[str]:
    """Say which sequences show nobody and what was skipped, in a few sentences; none where nothing was."""
    faults = getattr(source, "faults", {})
    names = [source.names[i] for i in sorted(getattr(source, "left_out", ()))]
    said = []
    if names:
        said.append(f"no person in {len(names)} sequences, left out: {shorten(names)}")
    if faults:
        listed = shorten([f"{place}: {reason}" for place, reason in faults.items()])
        said.append(f"{len(faults)} faults, left out: {listed}")
    return said


def _levels(unit: "Unit") -> tuple[str, ...]:
    from data_prep.file_kinds import without_suffix

    return (*unit.levels, without_suffix(unit.names)) if unit.is_file else unit.levels


def _table(names: Sequence[str], lengths: Sequence[int]) -> SequenceTable:
    subjects, conditions, views = (np.array(column, str) for column in zip(*map(labels_of, names), strict=True))
    return SequenceTable(subjects, conditions, views, np.array(lengths, np.int64))


def _headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Read shape and dtype of every array, without its values."""
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as file:
            return {path.stem: _header(file)}
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                headers[name.removesuffix(".npy")] = _header(file)
    return headers


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype
