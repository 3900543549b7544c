"""Videos in a folder, and the labels that their names give."""

import re
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (
    *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v"),
    *(".mts", ".m2ts", ".ts", ".3gp", ".flv", ".ogv", ".mjpeg", ".vob"),
)
PICTURES = (".png", ".bmp", ".tif", ".tiff")  # masks made elsewhere; JPEG blurs ids
_TEXTS = ("", ".txt", ".md", ".json", ".csv", ".xml", ".srt", ".log", ".pdf", ".html", ".yaml", ".yml")
_DATE = re.compile(r"(19|20)\d\d-?[01]\d")


class Labels(NamedTuple):
    """Subject, condition and view of a video; stated: its name or its folders give all three."""

    subject: str
    condition: str
    view: str
    stated: bool


class Listing(NamedTuple):
    """Videos, or folders of mask pictures, and what else lies there: suffix -> files that are not read."""

    videos: list[Path]
    unread: dict[str, list[Path]]


def list_videos(place: Path, masks: bool = False) -> Listing:
    """List the videos of a folder and below, or the one that is given.

    Hidden files (names that begin with a dot) are passed over. masks: a folder of pictures is a video, too. Raises
    ValueError where there is none.
    """
    if not place.exists():
        raise ValueError(f"{place}: there is no such file or folder")
    if place.is_file():
        return Listing([place], {})
    videos, folders, unread = [], set(), defaultdict(list)
    for path in sorted(place.rglob("*")):
        if not path.is_file() or any(part.startswith(".") for part in path.relative_to(place).parts):
            continue
        suffix = path.suffix.lower()
        if suffix in SUFFIXES:
            videos.append(path)
        elif masks and suffix in PICTURES:
            folders.add(path.parent)
        elif suffix not in _TEXTS:
            unread[suffix].append(path)
    if not videos and not folders:
        kinds = "; ".join(f"{len(paths)} files {suffix}" for suffix, paths in unread.items()) or "nothing"
        raise ValueError(f"{place}: no video there, but {kinds}; videos are {', '.join(SUFFIXES)}")
    return Listing(sorted(videos + list(folders)), dict(unread))


def labels_of(path: Path, root: Path, condition: str, view: str) -> Labels:
    """Read subject, condition and view from the name of a video, or of the folders between it and `root`.

    A name <subject>-<condition>-<view> is asked first, wherever the file lies, unless it begins with a date; then the
    folders, <subject>/<condition>/<view>; what is missing is taken from `condition` and `view`.
    """
    stem = path.name if path.is_dir() else path.stem
    parts = stem.split("-")
    if len(parts) >= 3 and all(parts) and not _DATE.match(stem):
        return _labels(parts[0], "-".join(parts[1:-1]), parts[-1], stated=True)
    names = [*path.relative_to(root).parent.parts, stem]
    stated = len(names) >= 3
    names += [condition, view][len(names) - 1 :]
    return _labels(*names[-3:], stated=stated)


def _labels(subject: str, condition: str, view: str, stated: bool) -> Labels:
    return Labels(*(unicodedata.normalize("NFC", name) for name in (subject, condition, view)), stated)
