"""Walk through folders and archives, and sort their files into units, archives, faults and files that are not read."""

import os
import re
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from data_prep.archives import Archives, Chain, NestedMember, place_of
from data_prep.faults import DAMAGE, Fault, describe_error, is_machine_error
from data_prep.file_kinds import (
    foreign_archive,
    is_archive,
    is_litter,
    is_picture,
    is_sequence_file,
    suffix_of,
    without_suffix,
)
from data_prep.limits import LimitError
from data_prep.tar_archive import Member
from data_prep.units import HANDLE, Unit
from data_prep.zip_archive import PasswordError, ZipArchive

_CASIA_FRAME = re.compile(r"(.+?)-(.+)-([^-]+)-\d+")  # 001-nm-01-090-001
Path_ = tuple[str, ...]  # names from --raw down


class Unread(NamedTuple):
    """Files of one suffix in one folder that are not read. among: beside frames; inmost: no folder is below."""

    path: Path_
    place: str
    suffix: str
    example: str
    count: int
    among: bool
    inmost: bool


@dataclass
class Found:
    """What one archive holds, or the folders on the disk. archives: path below the raw data, and how to open it."""

    units: list[Unit] = field(default_factory=list)
    archives: list[tuple[Path_, Chain]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)


def walk_folders(root: Path, skip: str | os.PathLike[str], litter: str = "") -> Found:
    """List the folders below `root` and the archives in them.

    Links to folders are followed after everything else, so that a folder counts where it lies; each is read once.
    skip: a folder that is not looked into; litter: a regular expression of names that are ignored.
    """
    found = Found()
    seen = {os.path.realpath(skip)} if skip else set()
    folders, links = [str(root)], []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            if os.path.islink(folder):
                found.notes.append(f"{folder}: a link to a folder that is read already")
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                kept = sorted((e for e in entries if not is_litter(e.name, litter)), key=lambda entry: entry.name)
            below = _walk_folder(found, folder, Path(folder).relative_to(root).parts, kept)
        except OSError as error:
            found.faults.append(Fault(folder, f"can't be read ({describe_error(error)})"))
            continue
        folders += [entry.path for entry in reversed(below) if not entry.is_symlink()]
        links += [entry.path for entry in below if entry.is_symlink()]
    return found


def _walk_folder(found: Found, folder: str, path: Path_, entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    """Sort the entries of a folder; returns the folders in it."""
    below = [entry for entry in entries if entry.is_dir()]
    files: dict[str, tuple[int, int] | None] = {}
    others = 0
    for entry in entries:
        if entry.is_dir():
            continue
        others += 1
        if not entry.is_file():
            gone = entry.is_symlink() and not os.path.exists(entry.path)
            reason = "can't be read (a link to nothing)" if gone else "not a regular file: refused"
            found.faults.append(Fault(entry.path, reason))
        elif is_archive(entry.name):
            found.archives.append(((*path, entry.name), (entry.path,)))
        elif advice := foreign_archive(entry.name):
            found.faults.append(Fault(entry.path, advice))
        else:
            others -= 1
            files[entry.name] = None
    if files or not (below or others):
        _add_folder(found, path, folder, (), files, inmost=not below)
    return below


def list_archive(litter: str, archives: Archives, job: tuple[Path_, Chain]) -> Found:
    """List the folders of one archive, and the archives in it. litter: as in walk_folders."""
    path, chain = job
    found = Found()
    folders: dict[Path_, dict] = {}
    full: set[Path_] = set()  # folders with something in them
    last, count = None, 0
    try:
        archive = archives.get(chain)
        if isinstance(archive, ZipArchive) and archive.note:
            found.notes.append(f"{place_of(chain)}: {archive.note}")
        for count, member in enumerate(archive.members(), 1):  # noqa: B007, counted for later
            last = _add_member(found, folders, full, chain, member, litter) or last
            archives.limits.check_number(len(found.archives))
    except PasswordError:
        raise
    except LimitError as error:
        folders, found.archives = {}, []
        found.faults.append(Fault(place_of(chain), str(error)))
    except DAMAGE as error:
        if is_machine_error(error):
            raise
        last = last or ()
        lost = f"; {'/'.join(last)} may have lost frames and is left out" if folders.pop(last, None) else ""
        found.faults.append(Fault(place_of(chain), f"can't be read to its end ({describe_error(error)}){lost}"))
    else:
        if count == 0:
            found.faults.append(Fault(place_of(chain), "an empty archive"))
    inner = found.archives
    inside = [parts for parts, files in folders.items() if parts or _frames(files)]
    base = _level_of_archive(path, inside + [parts for parts, _ in inner])
    found.archives = [((*base, *parts), chain) for parts, chain in inner]
    for parts, files in folders.items():
        if files or parts not in full:
            inmost = not any(other[: len(parts)] == parts for other in full if len(other) > len(parts))
            place = "/".join((place_of(chain), *parts))
            _add_folder(found, (*base, *parts), place, chain, files, inmost=inmost)
    return found


def _add_member(
    found: Found, folders: dict[Path_, dict], full: set[Path_], chain: Chain, member: Member, litter: str
) -> Path_ | None:
    """Sort a member into a folder, an archive or a fault; returns the folder that took it."""
    parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
    place = f"{place_of(chain)}/{member.name}" if member.name else place_of(chain)
    if not member.name:
        found.faults.append(Fault(place, member.problem))
    elif ".." in parts or member.name.startswith("/") or re.match(r"[A-Za-z]:", member.name):
        found.faults.append(Fault(place, "points outside the archive: refused"))
    elif not parts or any(is_litter(part, litter) for part in parts):
        return None
    elif member.is_folder:
        folders.setdefault(parts, {})
        full.add(parts[:-1])
    else:
        full.update((parts[:-1], parts[:-2]))
        if member.problem:
            found.faults.append(Fault(place, member.problem))
        elif is_archive(parts[-1]):
            found.archives.append((parts, (*chain, NestedMember(member.name, member.handle))))
        elif advice := foreign_archive(parts[-1]):
            found.faults.append(Fault(place, advice))
        elif parts[-1] in folders.setdefault(parts[:-1], {}):
            found.faults.append(Fault(place, "stands more than once in the archive: the first is taken"))
        else:
            folders[parts[:-1]][parts[-1]] = member.handle
            return parts[:-1]
    return None


def _level_of_archive(path: Path_, inside: list[Path_]) -> Path_:
    """The levels above what an archive holds: its own name is one, unless all lies in one folder of that name."""
    tops = {without_suffix(parts[0]) if parts else "" for parts in inside}
    return path[:-1] if path and tops == {without_suffix(path[-1])} else path


def _frames(names: dict) -> bool:
    return any(is_picture(name) or is_sequence_file(name) for name in names)


def _add_folder(found: Found, path: Path_, place: str, chain: Chain, files: dict, inmost: bool) -> None:
    """Sort the files of a folder into units and files that are not read. files: name -> handle, or None on the disk."""
    if not files:
        found.faults.append(Fault(place, "an empty folder"))
    pictures = [name for name in files if is_picture(name)]
    whole = [name for name in files if is_sequence_file(name)]
    unread = defaultdict(list)
    for name in files.keys() - set(pictures) - set(whole):
        unread[suffix_of(name)].append(name)
    for suffix, names in sorted(unread.items()):
        among = bool(pictures or whole)
        found.unread.append(Unread(path, place, suffix, min(names), len(names), among, inmost))
    levels = tuple(sys.intern(without_suffix(name)) for name in path)

    def add(names: list[str], said: tuple = (), is_file: bool = False) -> None:
        ordered = natural_order(names)
        handles = b"".join(HANDLE.pack(*files[name]) for name in ordered) if chain else b""
        folder = "" if chain else place
        found.units.append(Unit(levels, place, chain, folder, "/".join(ordered), handles, said, is_file))

    if pictures:
        matches = {_CASIA_FRAME.fullmatch(without_suffix(name)) for name in pictures}
        add(pictures, tuple({match.groups() if match else None: 0 for match in matches}))
    for name in whole:
        add([name], is_file=True)


_DIGITS = re.compile(r"(\d+)")


def natural_order(names: list[str] | dict[str, bytes]) -> list[str]:
    """Names in the order a person counts: frame 2 before frame 10."""
    return sorted(names, key=lambda name: ([int(p) if i % 2 else p for i, p in enumerate(_DIGITS.split(name))], name))
