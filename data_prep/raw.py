"""Raw data sets as they lie on the disk: which sequences there are, whose they are, and where their frames lie.

Three ways to lie are understood, in folders, in archives, and in archives inside archives or folders:

    <subject>/<condition>/<view>/<frame>.png          CASIA-B and most others; levels too many or too few are found
    Silhouette_<view>-<condition>/<subject>/<frame>   OU-MVLP
    <subject>/<condition>/<view>[/<any>].pkl          a sequence in one file: pickle, npy or npz

A listing holds names and positions only; frames are read when a sequence is asked for.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.archives import (
    DAMAGE,
    FOREIGN_SUFFIXES,
    SUFFIXES,
    Archives,
    Chain,
    Fault,
    PasswordError,
    Step,
    is_our_side,
    place_of,
)

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".pbm", ".webp")
SEQUENCE_FILES = (".pkl", ".pickle", ".npy", ".npz")
_LITTER = re.compile(r"\..*|__MACOSX|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_OUMVLP = re.compile(r"Silhouette_(\d+)-(\d+)")
_CASIA_FRAME = re.compile(r"(.+?)-(.+)-([^-]+)-\d+")  # 001-nm-01-090-001
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class RawSequence:
    """A sequence and where it lies. No frame of it has been read.

    subject, condition, view: its labels; place: where it lies, for a reader. chain: the archive that holds it, ()
    for a folder; folder: the folder on the disk, if there is no archive. names: its files in natural order, joined by
    "/" (six million strings would not fit); handles: int64 [files, 2], what the archive wants to read them.
    """

    subject: str
    condition: str
    view: str
    place: str
    chain: Chain
    folder: str
    names: str = field(repr=False)
    handles: np.ndarray | None = field(repr=False)

    @property
    def files(self) -> list[str]:
        """The names of its files in natural order."""
        return self.names.split("/") if self.names else []

    @property
    def labels(self) -> tuple[str, str, str]:
        """(subject, condition, view)"""
        return self.subject, self.condition, self.view


class RawListing(NamedTuple):
    """What there is: sequences in the order of the records, faults found on the way, the layout in words."""

    sequences: list[RawSequence]
    faults: list[Fault]
    layout: str


class _Folder(NamedTuple):
    """A folder with its files. path: its name below the raw data, cut at the slashes, archives on the way included."""

    path: tuple[str, ...]
    chain: Chain
    folder: str
    files: dict[str, tuple[int, int] | None]  # name -> handle


class _Found(NamedTuple):
    """What one archive holds, or the folders on the disk."""

    folders: list[_Folder]
    archives: list[tuple[tuple[str, ...], Chain]]  # path below the raw data, and how to open it
    faults: list[Fault]


def list_raw(raw: str | os.PathLike, run_all: Callable, skip: str | os.PathLike = "") -> RawListing:
    """List the sequences of a folder or an archive.

    run_all(function, jobs) -> results of function(archives, job) in any order, see data_prep.workers; skip: a folder
    that is not looked into, where a data set is built below its raw data.
    Raises ValueError if there is no such file or no sequence at all, PasswordError for an encrypted archive.
    """
    raw = Path(raw).expanduser().absolute()
    if not raw.exists():
        raise ValueError(f"--raw={raw}: there is no such file or folder")
    found = _walk(raw, skip) if raw.is_dir() else _Found([], [((), (str(raw),))], [])
    folders, faults, chains = found.folders, found.faults, found.archives
    while chains:
        listed = list(run_all(_list_archive, chains))
        folders += [folder for one in listed for folder in one.folders]
        faults += [fault for one in listed for fault in one.faults]
        chains = [chain for one in listed for chain in one.archives]
    sequences, more_faults, layout = _name_sequences(folders, raw)
    faults = sorted(set(faults + more_faults))
    if not sequences and not faults:
        raise ValueError(
            f"--raw={raw}: no sequence found. Expected <subject>/<condition>/<view>/ with pictures {PICTURES} or "
            f"sequence files {SEQUENCE_FILES}, or archives {SUFFIXES} of such folders"
        )
    return RawListing(sequences, faults, layout)


def read_files(sequence: RawSequence, archives: Archives) -> Iterator[tuple[str, bytes | Fault]]:
    """The files of a sequence one after the other: (place, bytes), or (place, Fault) where one can't be read."""
    for index, name in enumerate(sequence.files):
        place = f"{sequence.place}/{name}"
        try:
            if sequence.chain:
                yield place, archives.get(sequence.chain).read(tuple(sequence.handles[index].tolist()))
            else:
                with open(os.path.join(sequence.folder, name), "rb") as file:
                    yield place, file.read()
        except DAMAGE as error:
            if is_our_side(error) or isinstance(error, PasswordError):
                raise
            yield place, Fault(place, f"can't be read ({why(error)})")


def natural_order(names: Iterable[str]) -> list[str]:
    """Names in the order a person counts: frame 2 before frame 10."""
    return sorted(names, key=lambda name: ([int(p) if i % 2 else p for i, p in enumerate(_DIGITS.split(name))], name))


def why(error: BaseException) -> str:
    """An exception in a few words."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


# --- what lies where ------------------------------------------------------------------------------------------------


def _walk(root: Path, skip: str | os.PathLike) -> _Found:
    """The folders below `root` and the archives in them. Links to folders are followed, each folder once."""
    found = _Found([], [], [])
    seen = {os.path.realpath(skip)} if skip else set()

    def complain(error: OSError) -> None:
        found.faults.append(Fault(str(error.filename), f"can't be read ({why(error)})"))

    for folder, below, names in os.walk(root, onerror=complain, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not _LITTER.fullmatch(name))
        names = sorted(name for name in names if not _LITTER.fullmatch(name))
        path = Path(folder).relative_to(root).parts
        packed = [name for name in names if name.lower().endswith(SUFFIXES)]
        found.archives.extend(((*path, name), (os.path.join(folder, name),)) for name in packed)
        foreign = [name for name in names if name.lower().endswith(FOREIGN_SUFFIXES)]
        found.faults.extend(Fault(os.path.join(folder, name), _UNPACK) for name in foreign)
        files = dict.fromkeys(set(names) - set(packed) - set(foreign))
        if files or not (below or names):
            found.folders.append(_Folder(path, (), folder, files))
    return found


_UNPACK = "an archive that can't be read here: unpack it"


def _list_archive(archives: Archives, job: tuple[tuple[str, ...], Chain]) -> _Found:
    """The folders of one archive, and the archives in it."""
    path, chain = job
    found = _Found([], [], [])
    folders: dict[tuple[str, ...], dict] = {}
    full = set()  # folders with something in them
    last, count = None, 0
    try:
        for count, member in enumerate(archives.get(chain).members(), 1):  # noqa: B007, counted for later
            parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
            place = f"{place_of(chain)}/{member.name}"
            if ".." in parts or member.name.startswith("/") or re.match(r"[A-Za-z]:", member.name):
                found.faults.append(Fault(place, "points outside the archive: refused"))
            elif not parts or any(_LITTER.fullmatch(part) for part in parts):
                continue
            elif member.is_folder:
                folders.setdefault(parts, {})
                full.add(parts[:-1])
            else:
                full.update((parts[:-1], parts[:-2]))
                if member.problem:
                    found.faults.append(Fault(place, member.problem))
                elif parts[-1].lower().endswith(SUFFIXES):
                    found.archives.append(((*path, *parts), (*chain, Step(member.name, member.handle))))
                elif parts[-1].lower().endswith(FOREIGN_SUFFIXES):
                    found.faults.append(Fault(place, _UNPACK))
                else:
                    last = parts[:-1]
                    folders.setdefault(last, {})[parts[-1]] = member.handle
    except PasswordError:
        raise
    except DAMAGE as error:
        if is_our_side(error):
            raise
        lost = f"; {'/'.join(last)} may have lost frames and is left out" if folders.pop(last, None) else ""
        found.faults.append(Fault(place_of(chain), f"can't be read to its end ({why(error)}){lost}"))
    else:
        if count == 0:
            found.faults.append(Fault(place_of(chain), "an empty archive"))
    for parts, files in folders.items():
        if files or parts not in full:
            found.folders.append(_Folder((*path, *parts), chain, "", files))
    return found


# --- whose it is ----------------------------------------------------------------------------------------------------


class _Unit(NamedTuple):
    """Files that make one sequence.

    names: the levels above it, from the outermost to its own; said: the labels in the names of CASIA-B's frames;
    alone: a sequence file that has its folder for itself.
    """

    names: tuple[str, ...]
    folder: _Folder
    files: list[str]
    said: tuple[str, ...] | None = None
    alone: bool = False


def _name_sequences(folders: list[_Folder], raw: Path) -> tuple[list[RawSequence], list[Fault], str]:
    units, faults = [], []
    with_pictures = {folder.path for folder in folders if any(n.lower().endswith(PICTURES) for n in folder.files)}
    for folder in folders:
        place = _place(raw, folder.path)
        if not folder.files:
            faults.append(Fault(place, "an empty folder"))
        if any(folder.path[:i] in with_pictures for i in range(1, len(folder.path))):
            faults.append(Fault(place, "a folder among the frames of a sequence"))
            continue
        pictures = [name for name in folder.files if name.lower().endswith(PICTURES)]
        whole = [name for name in folder.files if name.lower().endswith(SEQUENCE_FILES)]
        if pictures or whole:
            strange = natural_order(set(folder.files) - set(pictures) - set(whole))
            faults += [Fault(f"{place}/{name}", "neither a picture nor a sequence file") for name in strange]
        names = tuple(map(_without_suffix, folder.path))
        units += _picture_units(names, folder, pictures)
        alone = len(whole) == 1 and not pictures
        units += [_Unit((*names, _without_suffix(name)), folder, [name], alone=alone) for name in whole]
    labelled, layout = _label(units, raw)
    sequences: dict[tuple, RawSequence] = {}
    order = _by_view if layout.startswith("Silhouette_") else _by_subject
    for labels, unit in sorted(labelled, key=lambda pair: (order(pair[0]), pair[1].folder.path, pair[1].files)):
        sequence = _sequence(labels, unit, raw)
        first = sequences.setdefault(labels, sequence)
        if first is not sequence:
            what = "/".join(labels)
            faults.append(Fault(sequence.place, f"the sequence {what} is there twice, also as {first.place}"))
    return list(sequences.values()), faults, layout


def _by_subject(labels: tuple[str, str, str]) -> tuple:
    return labels


def _by_view(labels: tuple[str, str, str]) -> tuple:
    # OU-MVLP comes as one archive for every view and condition: one after the other, few are open at a time.
    return labels[1], labels[2], labels[0]


def _place(raw: Path, path: tuple[str, ...]) -> str:
    return os.path.join(raw, *path)


def _sequence(labels: tuple[str, str, str], unit: _Unit, raw: Path) -> RawSequence:
    folder = unit.folder
    names = natural_order(unit.files)
    handles = np.array([folder.files[name] for name in names], np.int64) if folder.chain else None
    return RawSequence(*labels, _place(raw, folder.path), folder.chain, folder.folder, "/".join(names), handles)


def _picture_units(names: tuple[str, ...], folder: _Folder, pictures: list[str]) -> list[_Unit]:
    """One sequence a folder; but a folder of CASIA-B frames of several sequences is told apart by their names."""
    if not pictures:
        return []
    groups = defaultdict(list)
    for name in pictures:
        match = _CASIA_FRAME.fullmatch(_without_suffix(name))
        groups[match.groups() if match else None].append(name)
    if None in groups:
        return [_Unit(names, folder, pictures)]
    if len(groups) == 1:
        return [_Unit(names, folder, pictures, said=next(iter(groups)))]
    return [_Unit((*names, *labels), folder, files) for labels, files in groups.items()]


def _label(units: list[_Unit], raw: Path) -> tuple[list[tuple[tuple[str, str, str], _Unit]], str]:
    """(subject, condition, view) of every unit, and the layout in words."""
    labelled, layouts, by_depth = [], set(), defaultdict(list)
    for unit in units:
        levels = [i for i, name in enumerate(unit.names[:-1]) if _OUMVLP.fullmatch(name)]
        if levels:
            view, condition = _OUMVLP.fullmatch(unit.names[levels[-1]]).groups()
            labelled.append(((unit.names[levels[-1] + 1], condition, view), unit))
            layouts.add("Silhouette_<view>-<condition>/<subject>")
        else:
            by_depth[len(unit.names)].append(unit)
    for depth, group in sorted(by_depth.items()):
        if depth < 3 and all(unit.said for unit in group):
            labelled += [(unit.said, unit) for unit in group]
            layouts.add("<subject>-<condition>-<view>-<frame>")
            continue
        kept, words = _levels([unit.names for unit in group], depth, raw, all(unit.alone for unit in group))
        labelled += [(tuple(kept(unit.names)), unit) for unit in group]
        layouts.add(words)
    labelled = [(tuple(map(_clean, labels)), unit) for labels, unit in labelled]
    return labelled, " and ".join(sorted(layouts, reverse=True))


def _levels(names: list[tuple[str, ...]], depth: int, raw: Path, alone: bool) -> tuple[Callable, str]:
    """Which three levels of the folders' names are subject, condition and view: a function that picks them."""
    if depth < 3:
        above = [_without_suffix(part) for part in raw.parts[1:]]
        if depth and not all(name[-1].isdecimal() for name in names):
            above.append("000")  # no view: <subject>/<condition>/<frame>
            return (lambda n: (*above[:-1], *n, above[-1])[-3:]), "<subject>/<condition>"
        return (lambda n: ("", "", *above, *n)[-3:]), "/".join(["<subject>", "<condition>", "<view>"][3 - depth :])
    columns = list(range(depth))
    varies = [len({n[i] for n in names}) > 1 for i in columns]
    while len(columns) > 3 and not varies[columns[0]]:
        columns.pop(0)  # a folder around everything
    for left, right in zip(range(depth - 1), range(1, depth), strict=True):
        if len(columns) > 3 and right in columns and left in columns and all(n[left] == n[right] for n in names):
            columns.remove(right)  # 001/001/nm-01/000, or 000/000.pkl
    if alone and len(columns) > 3 and len({n[:-1] for n in names}) == len(names):
        columns = columns[:-1] if columns[-1] == depth - 1 else columns  # 001/nm-01/000/<any name>.pkl
    for i in reversed(range(depth)):
        if len(columns) > 3 and i in columns and not varies[i]:
            columns.remove(i)  # 001/nm-01/000/silhouettes
    columns = columns[-3:]
    words = dict.fromkeys(range(depth), "*") | dict(zip(columns, ("<subject>", "<condition>", "<view>"), strict=True))
    return (lambda n: (n[i] for i in columns)), "/".join(words.values())


def _without_suffix(name: str) -> str:
    lower = name.lower()
    for suffix in (*SUFFIXES, *PICTURES, *SEQUENCE_FILES):
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name


def _clean(name: str) -> str:
    """A label that every program writes the same way: composed Unicode, nothing that isn't text."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
