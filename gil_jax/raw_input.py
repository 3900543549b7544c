"""Silhouettes as users have them: records, folders, archives, arrays. data_prep aligns them and is imported late."""

import atexit
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from gil_jax.data.names import shorten
from gil_jax.data.source import SequenceTable, SilhouetteSource, find_dataset

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
SEQUENCE_FILES = (".npy", ".npz", ".pkl", ".pickle")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v")


class FileSequences:
    """Sequences in files, read and aligned when they are asked for; as `embed_split` takes a source.

    table: labels from the paths, and the most frames that a sequence may have. names: the paths, for a reader. empty:
    rows that turned out to hold no frame with a person in it; they give one black frame. fingerprint: of names, sizes
    and times of the files.
    """

    def __init__(self, root: Path, height: int, files: dict[str, list[Path]]):
        self.height, self.names, self._files = height, list(files), list(files.values())
        labels = [_labels(name) for name in self.names]
        lengths = [len(paths) if paths[0].suffix.lower() in PICTURES else _frames_of(paths[0]) for paths in self._files]
        self.table = _table(labels, [max(length, 1) for length in lengths])
        self.empty: set[int] = set()
        digest = hashlib.sha256(str(height).encode())
        for paths in self._files:
            for path in paths:
                stat = path.stat()
                digest.update(f"{path.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        self.fingerprint = digest.hexdigest()[:32]

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]:
        """Read and align a sequence. Raises ValueError that names a file that can't be read."""
        from data_prep.frames import align_sequence, decode_file

        pictures = []
        for path in self._files[index]:
            try:
                pictures += decode_file(path.name, path.read_bytes())
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        try:
            frames = align_sequence(pictures, self.height)
        except ValueError as error:
            raise ValueError(f"{self.names[index]}: {error}") from error
        if not len(frames):
            self.empty.add(index)
            return np.zeros((1, self.height, self.height), np.uint8)
        return frames


class ArraySequences:
    """Aligned sequences in memory, as `embed_split` takes a source."""

    empty: frozenset[int] = frozenset()

    def __init__(self, sequences: Sequence[UInt8[np.ndarray, "_ h h"]], height: int, names: Sequence[str] = ()):
        self.height, self._sequences = height, sequences
        self.names = list(names) or [f"{i}" for i in range(len(sequences))]
        self.table = _table([_labels(name) for name in self.names], [len(s) for s in sequences])
        digest = hashlib.sha256()
        for name, sequence in zip(self.names, sequences, strict=True):
            digest.update(f"{name} {sequence.shape} ".encode() + sequence.tobytes())
        self.fingerprint = digest.hexdigest()[:32]

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]:
        """Return a sequence."""
        return self._sequences[index]


def open_silhouettes(data: str | os.PathLike, height: int) -> SilhouetteSource | FileSequences | ArraySequences:
    """Open silhouettes, raw or aligned, of any kind.

    data: a data set that data_prep.build wrote (its folder, or the one above its heights); a folder, in which every
    folder with pictures and every npy, npz or pickle is a sequence, labelled by its path, also the tracks that
    data_prep.video writes; a zip or tar of <subject>/<condition>/<view>/; an npy [s, h, w], or an npz of such arrays.
    height: that of the network. Raises FileNotFoundError or ValueError that names the fix.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"--data={data}: no such file or folder")
    if path.is_dir():
        if (path / "dataset_info.json").is_file():
            return _check_height(SilhouetteSource(path), height)
        if any(path.glob("*/*/dataset_info.json")):
            return SilhouetteSource(find_dataset(str(path.parent), path.name, height))
        return _open_folder(path, height)
    if path.suffix.lower() in (".npy", ".npz"):
        return _open_arrays(path, height)
    if path.suffix.lower() in SEQUENCE_FILES:
        return FileSequences(path.parent, height, {path.stem: [path]})
    if path.suffix.lower() in VIDEOS:
        raise ValueError(
            f"--data={data} is a video: `python -m data_prep.video {data} --out=<folder>` finds the people in it; give "
            "that folder"
        )
    return _build(path, height)


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


def _open_folder(folder: Path, height: int) -> FileSequences:
    files: dict[str, list[Path]] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX", "@eaDir")))
        place = Path(place)
        shown = [place / name for name in sorted(names) if not name.startswith(".")]
        pictures = [path for path in shown if path.suffix.lower() in PICTURES]
        # The sequence of a folder itself is named after it.
        name = str(place.relative_to(folder)) if place != folder else folder.resolve().name
        if pictures:
            files[name] = pictures
        for path in shown:
            if path.suffix.lower() in SEQUENCE_FILES:
                files[str(path.relative_to(folder).with_suffix(""))] = [path]
    if not files:
        raise ValueError(
            f"--data={folder}: no folder with pictures ({', '.join(PICTURES)}) and no sequence file "
            f"({', '.join(SEQUENCE_FILES)}) in it"
        )
    return FileSequences(folder, height, files)


def _open_arrays(path: Path, height: int) -> ArraySequences:
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {path.stem: content} if path.suffix.lower() == ".npy" else {name: content[name] for name in content}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"--data={path}: not an array file that can be read ({error})") from error
    if not arrays:
        raise ValueError(f"--data={path}: holds no arrays")
    return ArraySequences([align(array, height, name) for name, array in arrays.items()], height, list(arrays))


def _build(path: Path, height: int) -> SilhouetteSource:
    """Build the records of an archive in a temporary folder, which lasts as long as the process."""
    from data_prep.build import build_dataset

    folder = tempfile.TemporaryDirectory(prefix="gil_jax_")
    atexit.register(folder.cleanup)
    return SilhouetteSource(build_dataset("silhouettes", str(path), folder.name, height, name="silhouettes"))


def _check_height(source: SilhouetteSource, height: int) -> SilhouetteSource:
    if source.height != height:
        raise ValueError(f"{source.path} holds silhouettes of height {source.height}, the network takes {height}")
    return source


def _table(labels: list[tuple[str, str, str]], lengths: list[int]) -> SequenceTable:
    subjects, conditions, views = (np.array(column, str) for column in zip(*labels, strict=True))
    return SequenceTable(subjects, conditions, views, np.array(lengths, np.int64))


def _labels(name: str) -> tuple[str, str, str]:
    """Name subject, condition and view by a path: first, middle and last folder."""
    parts = name.split(os.sep)
    if len(parts) < 3:
        parts = [*parts, *["000"] * (3 - len(parts))]
    return parts[0], "-".join(parts[1:-1]), parts[-1]


def _frames_of(path: Path) -> int:
    from data_prep.sequence_files import decode_sequence

    try:
        return len(decode_sequence(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def describe_empty(source: SilhouetteSource | FileSequences | ArraySequences) -> str:
    """Say which sequences hold nobody; empty text where all hold somebody."""
    if isinstance(source, SilhouetteSource) or not source.empty:
        return ""
    names = [source.names[i] for i in sorted(source.empty)]
    return f"no person in {len(names)} sequences, left out: {shorten(names)}"
