"""Archives read in place: zip, tar, and tar packed with gzip, bzip2 or xz, also inside one another.

Nothing is ever unpacked under a name that an archive chose, so a member can't write outside the place it is given.
"""

import bz2
import contextlib
import errno
import gzip
import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
FOREIGN_SUFFIXES = (".7z", ".rar")
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
DAMAGE += (RuntimeError, ValueError, IndexError)  # zipfile and tarfile raise these for headers that make no sense
IN_MEMORY = 256 << 20  # bytes of a decompressed archive that a process holds; what is larger goes to the scratch folder
HELD_OPEN = 512 << 20  # bytes that the open archives of a process may take; two stay open in any case
ON_DISK = 64 << 20  # bytes of a packed archive from which it is unpacked once, for all processes

_PACKINGS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_OUR_SIDE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Fault(NamedTuple):
    """What is wrong with the raw data, and where; `place` reads like a path through folders and archives."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class Member(NamedTuple):
    """A file or an empty folder of an archive. handle: what `read` wants; problem: why it can't be read."""

    name: str
    handle: tuple[int, int]
    is_folder: bool = False
    problem: str = ""


class Step(NamedTuple):
    """A member that is an archive itself: where it is found in the archive before it in a chain."""

    name: str
    handle: tuple[int, int]


Chain = tuple[str | Step, ...]  # the path of an archive on the disk, then a Step for every archive inside it


class PasswordError(ValueError):
    """An encrypted archive, and no password that opens it."""


def is_our_side(error: BaseException) -> bool:
    """Is this a full disk or the like, and not damaged data?"""
    return isinstance(error, OSError) and error.errno in _OUR_SIDE


def place_of(chain: Chain) -> str:
    """The name of a chain for a reader."""
    return "/".join(step if isinstance(step, str) else step.name for step in chain)


class TarArchive:
    """A tar file, not compressed; members are read by their offset. weight: bytes of memory, about."""

    def __init__(self, file: BinaryIO, problem: str = ""):
        self._file, self._problem = file, problem
        self.weight = _weight(file)

    def members(self) -> Iterator[Member]:
        """The members in the archive's order; raises one of DAMAGE where the archive breaks off."""
        self._file.seek(0)
        with tarfile.open(fileobj=self._file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # millions of them fill the memory
                problem = ""
                if not (info.isreg() or info.isdir()) or info.issparse():
                    problem = "a link or another special member: refused"
                yield Member(info.name, (info.offset_data, info.size), info.isdir(), problem)
            self._file.seek(tar.offset)
        if self._problem or self._file.read(512) != bytes(512):
            raise EOFError(self._problem or "the archive breaks off, or is damaged, before its end")

    def read(self, handle: tuple[int, int]) -> bytes:
        """The bytes of a member."""
        offset, size = handle
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError(self._problem or "the archive breaks off inside this member")
        return data

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


class ZipArchive:
    """A zip file, with the first of `passwords` that opens it where it is encrypted. weight: bytes of memory, about."""

    def __init__(self, file: BinaryIO, place: str, passwords: tuple[bytes, ...] = ()):
        self._file = file
        self._zip = zipfile.ZipFile(file)
        self._infos = self._zip.infolist()
        self.weight = _weight(file) + 700 * len(self._infos)
        self._password = None
        encrypted = [info for info in self._infos if info.flag_bits & 1 and not info.is_dir()]
        if encrypted:
            self._password = self._find_password(min(encrypted, key=lambda info: info.file_size), place, passwords)

    def _find_password(self, info: zipfile.ZipInfo, place: str, passwords: tuple[bytes, ...]) -> bytes:
        if info.compress_type == 99:
            raise PasswordError(f"{place} is encrypted with AES, which Python's zipfile can't read: unpack it with 7z")
        for password in passwords:
            try:
                self._zip.read(info, password)
            except (
                RuntimeError,
                zipfile.BadZipFile,
                zlib.error,
                EOFError,
            ):  # 1 in 256 is noticed late
                continue
            return password
        raise PasswordError(
            f"{place} is encrypted and {'none of the passwords fits' if passwords else 'no password is given'}: "
            "write the password into a file and give its name (--password_file), or set $RAW_DATA_PASSWORD"
        )

    def members(self) -> Iterator[Member]:
        """The members in the archive's order."""
        for index, info in enumerate(self._infos):
            problem = ""
            if stat.S_ISLNK(info.external_attr >> 16):
                problem = "a link: refused"
            yield Member(_zip_name(info), (index, info.file_size), info.is_dir(), problem)

    def read(self, handle: tuple[int, int]) -> bytes:
        """The bytes of a member, whose checksum holds."""
        return self._zip.read(self._infos[handle[0]], self._password)

    def close(self) -> None:
        """Let go of the file."""
        self._zip.close()
        self._file.close()


def _weight(file: BinaryIO) -> int:
    return min(file.seek(0, os.SEEK_END), IN_MEMORY) if isinstance(file, tempfile.SpooledTemporaryFile) else 0


def _zip_name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & 0x800:  # said to be cp437, which zipfile believes; most programs write UTF-8
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            name = info.filename
    return name.replace("\\", "/")


class Archives:
    """The archives of a raw data set, opened when they are asked for; a few stay open.

    passwords: tried on encrypted zips; scratch: an existing folder for what is too large for the memory.
    """

    def __init__(self, passwords: tuple[bytes, ...] = (), scratch: str | None = None):
        self._passwords, self._scratch = passwords, scratch
        self._open: OrderedDict[Chain, TarArchive | ZipArchive] = OrderedDict()

    def get(self, chain: Chain) -> TarArchive | ZipArchive:
        """The archive at the end of a chain; raises PasswordError, or one of DAMAGE where it is none."""
        if chain in self._open:
            self._open.move_to_end(chain)
            return self._open[chain]
        archive = self._open_archive(chain)
        self._open[chain] = archive
        while len(self._open) > 2 and (len(self._open) > 64 or sum(a.weight for a in self._open.values()) > HELD_OPEN):
            self._open.popitem(last=False)[1].close()
        return archive

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1].close()

    def _open_archive(self, chain: Chain) -> TarArchive | ZipArchive:
        with contextlib.ExitStack() as until_open:
            if len(chain) == 1:
                file = until_open.enter_context(open(chain[0], "rb"))
            else:
                file = until_open.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._scratch))
                file.write(self.get(chain[:-1]).read(chain[-1].handle))
            packed_size = file.seek(0, os.SEEK_END)
            file.seek(0)
            start = file.read(6)
            if not start:
                raise ValueError("an empty file, not an archive")
            file.seek(0)
            if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                archive = ZipArchive(file, place_of(chain), self._passwords)
            else:
                unpack = next((unpack for magic, unpack in _PACKINGS.items() if start.startswith(magic)), None)
                if unpack:
                    return TarArchive(*self._unpacked(chain, file, unpack, packed_size))
                archive = TarArchive(file)
            until_open.pop_all()  # the archive closes its file
            return archive

    def _unpacked(self, chain: Chain, packed: BinaryIO, unpack, packed_size: int) -> tuple[BinaryIO, str]:
        """A packed tar file without its packing, and why it breaks off, if it does."""
        if self._scratch is None or packed_size < ON_DISK:
            with contextlib.ExitStack() as until_whole:
                plain = until_whole.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._scratch))
                problem = _copy(unpack(packed), plain)
                until_whole.pop_all()
                return plain, problem
        key = repr((chain, packed_size, os.stat(chain[0]).st_mtime_ns))
        kept = Path(self._scratch, f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.tar")
        note = kept.with_suffix(".problem")
        if not kept.exists():
            aside = kept.with_suffix(f".{os.getpid()}.tmp")
            with open(aside, "wb") as plain:
                note.write_text(_copy(unpack(packed), plain), encoding="utf-8")
            aside.rename(kept)
        return open(kept, "rb"), note.read_text(encoding="utf-8")


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy as much as there is, and say why there isn't more."""
    try:
        shutil.copyfileobj(source, target, 1 << 20)
    except (*DAMAGE,) as error:
        if is_our_side(error):
            raise
        return f"the archive is cut short or damaged ({error})"
    return ""
