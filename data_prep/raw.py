"""Raw data sets as they lie on the disk: which sequences there are, whose they are, and where their frames lie.

Three ways to lie are understood, in folders, in archives, and in archives inside archives or folders:

    <subject>/<condition>/<view>/<frame>.png          CASIA-B and most others; levels too many or too few are found
    Silhouette_<view>-<condition>/<subject>/<frame>   OU-MVLP
    <subject>/<condition>/<view>[/<any>].pkl          a sequence in one file: pickle, npy or npz

A listing holds names and positions only; frames are read when a sequence is asked for.
"""

import os
import re
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

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
from data_prep.layout import BY_ARCHIVE, PICTURES, SEQUENCE_FILES, Unit, label_units, without_suffix

_LITTER = re.compile(r"\..*|__MACOSX|Thumbs\.db|desktop\.ini", re.IGNORECASE)
_CASIA_FRAME = re.compile(r"(.+?)-(.+)-([^-]+)-\d+")  # 001-nm-01-090-001
_DIGITS = re.compile(r"(\d+)")
_HANDLE = struct.Struct("<qq")


@dataclass(frozen=True, slots=True, eq=False)
class RawSequence:
    """A sequence and where it lies. No frame of it has been read.

    subject, condition, view: its labels; place: where it lies, for a reader. chain: the archive that holds it, ()
    for a folder; folder: the folder on the disk, if there is no archive. names: its files in natural order, joined by
    "/" (six million strings would not fit); handles: packed, what the archive wants to read them.
    """

    subject: str
    condition: str
    view: str
    place: str
    chain: Chain
    folder: str
    names: str = field(repr=False)
    handles: bytes = field(repr=False)

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


class _Found(NamedTuple):
    """What one archive holds, or the folders on the disk."""

    units: list[Unit]
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
    units, faults, chains = found.units, found.faults, found.archives
    while chains:
        inner = []
        for found in run_all(_list_archive, chains):
            units += found.units
            faults += found.faults
            inner += found.archives
        chains = inner
    sequences, more_faults, layout = _name_sequences(units, raw)
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
                yield (
                    place,
                    archives.get(sequence.chain).read(_HANDLE.unpack_from(sequence.handles, index * _HANDLE.size)),
                )
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
            _add_folder(found, path, folder, (), files)
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
            _add_folder(found, (*path, *parts), "/".join((place_of(chain), *parts)), chain, files)
    return found


def _add_folder(found: _Found, path: tuple[str, ...], place: str, chain: Chain, files: dict) -> None:
    """Sort the files of a folder into sequences. files: name -> handle, or None on the disk."""
    if not files:
        found.faults.append(Fault(place, "an empty folder"))
    pictures = [name for name in files if name.lower().endswith(PICTURES)]
    whole = [name for name in files if name.lower().endswith(SEQUENCE_FILES)]
    if pictures or whole:
        strange = set(files) - set(pictures) - set(whole)
        found.faults.extend(Fault(f"{place}/{name}", "neither a picture nor a sequence file") for name in strange)
    levels = tuple(sys.intern(without_suffix(name)) for name in path)

    def add(levels: tuple[str, ...], names: list[str], said=None, alone: bool = False) -> None:
        ordered = natural_order(names)
        handles = b"".join(_HANDLE.pack(*files[name]) for name in ordered) if chain else b""
        found.units.append(Unit(levels, place, chain, "" if chain else place, "/".join(ordered), handles, said, alone))

    groups = defaultdict(list)
    for name in pictures:
        match = _CASIA_FRAME.fullmatch(without_suffix(name))
        groups[match.groups() if match else None].append(name)
    if None in groups:
        add(levels, pictures)
    elif len(groups) == 1:
        add(levels, pictures, said=next(iter(groups)))
    else:  # CASIA-B's frames of several sequences in one folder are told apart by their names
        for labels, names in groups.items():
            add((*levels, *labels), names)
    for name in whole:
        add((*levels, without_suffix(name)), [name], alone=len(whole) == 1 and not pictures)


def _name_sequences(units: list[Unit], raw: Path) -> tuple[list[RawSequence], list[Fault], str]:
    """The sequences in the order of the records, faults, and the layout in words."""
    strays = _strays(units, raw)
    faults = [Fault(place, reason) for place, reason in strays.items()]
    labelled, layout = label_units([unit for unit in units if unit.place not in strays], raw)
    labelled.sort(key=lambda pair: (_order(pair[0], layout), pair[1].place, pair[1].names))
    sequences: dict[tuple, RawSequence] = {}
    for labels, unit in labelled:
        sequence = RawSequence(*labels, unit.place, unit.chain, unit.folder, unit.names, unit.handles)
        first = sequences.setdefault(labels, sequence)
        if first is not sequence:
            what = "/".join(labels)
            faults.append(Fault(sequence.place, f"the sequence {what} is there twice, also as {first.place}"))
    return list(sequences.values()), faults, layout


def _strays(units: list[Unit], raw: Path) -> dict[str, str]:
    """Folders that can't be sequences because they lie around or inside of others: place -> what is wrong.

    Of two such folders the one at the depth of most sequences is right.
    """
    if not units:
        return {}
    usual = Counter(len(unit.levels) for unit in units).most_common(1)[0][0]
    with_pictures = {unit.place for unit in units if unit.names.lower().endswith(PICTURES)}
    strays = {}
    for unit in units:
        around = _parents(unit.place, raw) & with_pictures
        if around and len(unit.levels) == usual:
            strays |= dict.fromkeys(around, "pictures beside the folders of sequences")
        elif around:
            strays[unit.place] = "a folder among the frames of a sequence"
    return strays


def _order(labels: tuple[str, str, str], layout: str) -> tuple:
    # OU-MVLP comes as one archive for every view and condition: one after the other, few are open at a time.
    return (labels[1], labels[2], labels[0]) if layout == BY_ARCHIVE else labels


def _parents(place: str, raw: Path) -> set[str]:
    cuts = [i for i, letter in enumerate(place) if letter == "/" and i > len(str(raw))]
    return {place[:i] for i in cuts} | ({str(raw)} if place != str(raw) else set())
