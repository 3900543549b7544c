"""Zip files, read in place, with passwords and with names in any encoding."""

import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from data_prep.tar_archive import CHUNK, Member
from data_prep.zip_names import decode_names

_AES = 99


class PasswordError(ValueError):
    """An encrypted archive, and no password that opens it."""


class ZipArchive:
    """A zip file, with the first of `passwords` that opens it where it is encrypted.

    place: for messages; encoding: of names that are not said to be UTF-8; weight: bytes of memory, about; note: how
    the names were read, where that had to be guessed.
    """

    def __init__(
        self, file: IO[bytes], place: str, passwords: tuple[bytes, ...] = (), encoding: str = "", weight: int = 0
    ):
        self._file = file
        self._zip = zipfile.ZipFile(file)
        self._infos = self._zip.infolist()
        self._names, self.note = decode_names(self._infos, encoding)
        self.weight = weight + 700 * len(self._infos)
        self._password = None
        encrypted = [info for info in self._infos if info.flag_bits & 1 and not info.is_dir()]
        if encrypted:
            self._password = self._find_password(min(encrypted, key=lambda info: info.file_size), place, passwords)

    def _find_password(self, info: zipfile.ZipInfo, place: str, passwords: tuple[bytes, ...]) -> bytes:
        if info.compress_type == _AES:
            raise PasswordError(f"{place} is encrypted with AES, which Python's zipfile can't read: unpack it with 7z")
        for password in passwords:
            try:
                with self._zip.open(info, pwd=password) as member:
                    while member.read(CHUNK):
                        pass
            except (RuntimeError, zipfile.BadZipFile, zlib.error, EOFError):  # 1 wrong one in 256 is noticed late
                continue
            return password
        raise PasswordError(
            f"{place} is encrypted and {'none of the passwords fits' if passwords else 'no password is given'}: "
            "write the password into a file and give its name (--password_file), or set $RAW_DATA_PASSWORD"
        )

    def members(self) -> Iterator[Member]:
        """The members in the archive's order."""
        if self._infos and (start := min(info.header_offset for info in self._infos)) > 0:
            problem = f"more data before the first member: {start:,} bytes; two archives in one file?"
            yield Member("", (0, 0), False, problem)
        for index, (info, name) in enumerate(zip(self._infos, self._names, strict=True)):
            kind = stat.S_IFMT(info.external_attr >> 16)
            problem = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or another special member: refused"
            yield Member(name, (index, info.file_size), name.endswith("/"), problem)

    def chunks(self, handle: tuple[int, int]) -> Iterator[bytes]:
        """The bytes of a member, a piece at a time; raises BadZipFile where its checksum does not hold."""
        with self._zip.open(self._infos[handle[0]], pwd=self._password) as member:
            while chunk := member.read(CHUNK):
                yield chunk

    def sizes(self, handle: tuple[int, int]) -> tuple[int, int]:
        """Bytes of a member, and of the member as it is packed."""
        info = self._infos[handle[0]]
        return info.file_size, info.compress_size

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()
