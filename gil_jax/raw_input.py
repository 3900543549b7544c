"""Opening silhouettes as users have them: records, folders, archives, arrays, videos. data_prep is imported late."""

import atexit
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from gil_jax.data.names import shorten
from gil_jax.data.shards import read_json
from gil_jax.data.source import SilhouetteSource, find_dataset
from gil_jax.raw_sequences import FIX, ON_ERROR, ArrayFile, ArraySequences, FileSequences, RawSequences
from gil_jax.video_input import VideoSequences

if TYPE_CHECKING:
    from data_prep.walk import Found

Source = SilhouetteSource | RawSequences | ArraySequences | VideoSequences
Warn = Callable[[str], None]


def warn_on_stderr(text: str) -> None:
    """Print a warning beside what a command prints, above a progress bar."""
    tqdm.write(f"warning: {text}", file=sys.stderr)


def open_silhouettes(
    data: str | os.PathLike, height: int, on_error: str = "stop", keep: str = "", warn: Warn = warn_on_stderr
) -> Source:
    """Open silhouettes, raw or aligned, of any kind.

    data: a data set that data_prep.build wrote (its folder, or the one above its heights); a folder, in which every
    folder with pictures and every npy, npz or pickle is a sequence, labelled by its path; an archive, or a folder of
    archives, of <subject>/<condition>/<view>/; an npy [s, h, w], or an npz of such arrays; a video or a folder of
    videos, in which data_prep.video follows the people when they are first asked for.
    height: of the network. on_error: "stop" at what can't be read, or "skip" it. keep: a folder for what is found
    in videos. warn: called with what is not read. Raises FileNotFoundError or ValueError that names the fix.
    """
    path = Path(data).expanduser()
    if on_error not in ON_ERROR:
        raise ValueError(f"--on_error={on_error}: choose one of {', '.join(ON_ERROR)}")
    if not path.exists():
        raise FileNotFoundError(f"--data={data}: no such file or folder")
    if path.is_dir():
        if (path / "dataset_info.json").is_file():
            return _check_height(SilhouetteSource(path), height)
        if any(path.glob("*/*/dataset_info.json")):
            return SilhouetteSource(find_dataset(str(path.parent), path.name, height))
        if (path / "tracks.json").is_file() and (path / "silhouettes").is_dir():
            path = path / "silhouettes"  # all that data_prep.video wrote was given
        return _open_folder(path, height, on_error, keep, warn)
    return _open_file(path, height, on_error, keep, warn)


def _open_file(path: Path, height: int, on_error: str, keep: str, warn: Warn) -> Source:
    from data_prep.file_kinds import foreign_archive, is_archive, is_picture, is_sequence_file
    from data_prep.units import Unit

    if path.suffix.lower() in (".npy", ".npz"):
        return ArrayFile(path, height, on_error)
    if is_sequence_file(path.name):
        folder = str(path.parent)
        return FileSequences(path.parent, [Unit((), folder, (), folder, path.name, b"", (), True)], height, on_error)
    if is_archive(path.name):
        return _build(path, height, on_error, warn)
    if advice := foreign_archive(path.name):
        raise ValueError(f"--data={path}: {advice}")
    if is_picture(path.name):
        raise ValueError(f"--data={path} is one picture: give the folder of its sequence, {path.parent}")
    from data_prep.video.names import SUFFIXES

    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--data={path}: neither silhouettes nor a video; videos are {', '.join(SUFFIXES)}")
    return VideoSequences(path, height, on_error, keep, warn)


def _open_folder(folder: Path, height: int, on_error: str, keep: str, warn: Warn) -> Source:
    from data_prep.faults import Fault
    from data_prep.file_kinds import PICTURES, SEQUENCE_FILES
    from data_prep.walk import walk_folders

    found = walk_folders(folder, "")
    if not found.units:
        if found.archives:
            return _build(folder, height, on_error, warn)
        if _holds_videos(found):
            return VideoSequences(folder, height, on_error, keep, warn)
        held = shorten([*(str(fault) for fault in found.faults), *_not_read(found)]) or "it is empty"
        raise ValueError(
            f"--data={folder}: no folder with pictures ({', '.join(PICTURES)}), no sequence file "
            f"({', '.join(SEQUENCE_FILES)}), no archive and no video in it: {held}"
        )
    faults = [
        *found.faults,
        *(Fault(str(chain[0]), "an archive among folders: give it alone") for _, chain in found.archives),
    ]
    if faults and on_error == "stop":
        raise ValueError(f"--data={folder}: {shorten(faults)}. {FIX}")
    for text in [*map(str, faults), *_not_read(found), *found.notes]:
        warn(text)
    return FileSequences(folder, found.units, height, on_error)


def _not_read(found: "Found") -> list[str]:
    """Say what kinds of files are not read, a sentence each."""
    kinds: dict[str, list] = {}
    for one in found.unread:
        kinds.setdefault(one.suffix, []).append(one)
    return [
        f"not read: {sum(one.count for one in group)} files {suffix}, as {group[0].place}/{group[0].example}"
        for suffix, group in sorted(kinds.items())
    ]


def _holds_videos(found: "Found") -> bool:
    from data_prep.video.names import SUFFIXES

    return any(one.suffix in SUFFIXES for one in found.unread)


def _build(path: Path, height: int, on_error: str, warn: Warn) -> SilhouetteSource:
    """Build the records of archives in a temporary folder, which lasts as long as the process."""
    from data_prep.build import build_dataset
    from data_prep.file_kinds import without_suffix

    folder = tempfile.TemporaryDirectory(prefix="gil_jax_")
    atexit.register(folder.cleanup)
    # CASIA-B.zip is casia_b: the name says which protocol fits.
    name = re.sub(r"[^a-z0-9]+", "_", without_suffix(path.resolve().name).lower()).strip("_")
    name = name if name[:1].isalpha() else f"archive_{name}"
    built = build_dataset("silhouettes", path, folder.name, height, name=name, on_error=on_error, progress=False)
    metadata = read_json(built / "metadata.json")
    if empty := metadata["empty"]:
        warn(f"no person in {len(empty)} sequences, left out: {shorten(empty)}")
    if faults := metadata["faults"]:
        warn(f"{len(faults)} faults, left out: {shorten([': '.join(fault) for fault in faults])}")
    for note in (*metadata["notes"], *metadata["conversions"]):
        warn(note)
    return SilhouetteSource(built)


def _check_height(source: SilhouetteSource, height: int) -> SilhouetteSource:
    if source.height != height:
        raise ValueError(f"{source.path} holds silhouettes of height {source.height}, the network takes {height}")
    return source
