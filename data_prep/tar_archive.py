"""Tar files without a packing, read in place."""

import os
import tarfile
from collections.abc import Iterator
from typing import IO, NamedTuple

CHUNK = 1 << 20  # bytes that are copied at a time
_LONGEST_HEADER = 1 << 20  # bytes of an extended header; tarfile reads it into the memory
_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_HEADERS += (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class Member(NamedTuple):
    """A file or a folder of an archive. handle: as `chunks` takes it; problem: the reason why it can't be read.

    An empty name stands for the archive itself.
    """

    name: str
    handle: tuple[int, int]
    is_folder: bool = False
    problem: str = ""


class _Header(tarfile.TarInfo):
    """A header whose sizes are checked before tarfile follows them: it would loop for ever at a negative one."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """Read a header; raises tarfile.ReadError for a size that makes no sense."""
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0:
            raise tarfile.ReadError(f"a header with the size {info.size}")
        if info.type in _HEADERS and info.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"an extended header of {info.size:,} bytes")
        return info


class TarArchive:
    """A tar file; members are read by their offset.

    weight: bytes of memory, about; problem: what is wrong with the end of the file; encoding: of names that are not
    UTF-8.
    """

    def __init__(self, file: IO[bytes], problem: str = "", encoding: str = "", weight: int = 0):
        self._file, self._problem, self._encoding = file, problem, encoding
        self.weight = weight

    def members(self) -> Iterator[Member]:
        """The members in the archive's order; raises one of DAMAGE where the archive breaks off."""
        self._file.seek(0)
        with tarfile.open(fileobj=self._file, mode="r:", tarinfo=_Header) as tar:
            before = -1
            while (info := tar.next()) is not None:
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]; millions of them fill the memory
                if info.size < 0 or tar.offset <= before:
                    raise tarfile.ReadError(f"{info.name}: a header with the size {info.size}")
                before = tar.offset
                problem = ""
                if not (info.isreg() or info.isdir()) or info.issparse():
                    problem = "a link or another special member: refused"
                yield Member(self._name(info.name), (info.offset_data, info.size), info.isdir(), problem)
            self._file.seek(tar.offset)
        if self._problem or self._file.read(512) != bytes(512):
            raise EOFError(self._problem or "the archive breaks off, or is damaged, before its end")
        if self._has_more():
            yield Member("", (0, 0), False, "more data behind the end of the archive: two archives in one file?")

    def _name(self, name: str) -> str:
        if not self._encoding or not any("\udc80" <= letter <= "\udcff" for letter in name):
            return name
        return name.encode("utf-8", "surrogateescape").decode(self._encoding, "backslashreplace")

    def _has_more(self) -> bool:
        """Whether anything but zeros follows; a tar file ends with many of them."""
        while chunk := self._file.read(CHUNK):
            if chunk.count(0) < len(chunk):
                return True
        return False

    def chunks(self, handle: tuple[int, int]) -> Iterator[bytes]:
        """The bytes of a member, a piece at a time; raises EOFError where the archive breaks off."""
        offset, left = handle
        self._file.seek(offset)
        while left:
            chunk = self._file.read(min(left, CHUNK))
            if not chunk:
                raise EOFError(self._problem or "the archive breaks off inside this member")
            left -= len(chunk)
            yield chunk

    def sizes(self, handle: tuple[int, int]) -> tuple[int, int]:
        """Bytes of a member, and of the member as it is packed."""
        return handle[1], handle[1]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def size_of(file: IO[bytes]) -> int:
    """Bytes of an open file, which is left at its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size
