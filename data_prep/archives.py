"""Archives read in place: zip, tar, and tar packed with gzip, bzip2 or xz, also inside one another.

Nothing is ever unpacked under a name that an archive chose, so a member can't write outside the place it is given.
"""

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from data_prep.faults import DAMAGE, describe_error, is_machine_error
from data_prep.limits import DEFAULT_LIMITS, LimitError, Limits
from data_prep.tar_archive import CHUNK, TarArchive, size_of
from data_prep.zip_archive import ZipArchive

IN_MEMORY = 256 << 20  # bytes of a decompressed archive that a process holds; what is larger goes to the scratch folder
HELD_OPEN = 512 << 20  # bytes that the open archives of a process may take; two stay open in any case
ON_DISK = 64 << 20  # bytes of a packed archive from which it is unpacked once, for all processes

_PACKINGS: dict[bytes, Callable] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class NestedMember(NamedTuple):
    """A member that is an archive itself: where it is found in the archive before it in a chain."""

    name: str
    handle: tuple[int, int]


Chain = tuple[str | NestedMember, ...]  # the path of an archive on the disk, then the archives inside it
Archive = TarArchive | ZipArchive


def place_of(chain: Chain) -> str:
    """The name of a chain for a reader."""
    return "/".join(step if isinstance(step, str) else step.name for step in chain)


def open_regular(path: str) -> IO[bytes]:
    """Open a file; raises OSError for a FIFO, a device, or a link to one, at which reading would never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return os.fdopen(descriptor, "rb")


class Archives:
    """The archives of a raw data set, opened when they are asked for; a few stay open.

    passwords: tried on encrypted zips; scratch: an existing folder for what is too large for the memory; zip_encoding:
    of names that are not UTF-8; limits: for what an archive unpacks to.
    """

    def __init__(
        self,
        passwords: tuple[bytes, ...] = (),
        scratch: str | None = None,
        zip_encoding: str = "",
        limits: Limits = DEFAULT_LIMITS,
    ):
        self._passwords, self._scratch, self._zip_encoding = passwords, scratch, zip_encoding
        self.limits = limits
        self._open: OrderedDict[Chain, Archive] = OrderedDict()

    def get(self, chain: Chain) -> Archive:
        """The archive at the end of a chain; raises PasswordError, or one of DAMAGE where it is none."""
        if chain in self._open:
            self._open.move_to_end(chain)
            return self._open[chain]
        archive = self._open_archive(chain)
        self._open[chain] = archive
        while len(self._open) > 2 and (len(self._open) > 64 or sum(a.weight for a in self._open.values()) > HELD_OPEN):
            self._open.popitem(last=False)[1].close()
        return archive

    def read(self, chain: Chain, handle: tuple[int, int]) -> bytes:
        """The bytes of a member; raises one of DAMAGE, LimitError among them."""
        archive = self.get(chain)
        self.limits.check_sequence(archive.sizes(handle)[0])
        return b"".join(archive.chunks(handle))

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            self._open.popitem()[1].close()

    def _open_archive(self, chain: Chain) -> Archive:
        self.limits.check_depth(len(chain) - 1)
        with contextlib.ExitStack() as until_open:
            file = until_open.enter_context(self._file_of(chain))
            packed_size = size_of(file)
            start = file.read(6)
            if not start:
                raise ValueError("an empty file, not an archive")
            file.seek(0)
            if start[:4] in _ZIP:
                archive = ZipArchive(file, place_of(chain), self._passwords, self._zip_encoding, _weight(file))
            elif unpack := next((unpack for magic, unpack in _PACKINGS.items() if start.startswith(magic)), None):
                plain, problem = self._unpacked(chain, file, unpack, packed_size)
                return TarArchive(plain, problem, self._zip_encoding, _weight(plain))
            else:
                archive = TarArchive(file, "", self._zip_encoding, _weight(file))
            until_open.pop_all()  # the archive closes its file
            return archive

    def _file_of(self, chain: Chain) -> IO[bytes]:
        """The file of an archive; one that lies in another archive is copied out, in pieces."""
        last = chain[-1]
        if isinstance(last, str):
            return open_regular(last)
        around = self.get(chain[:-1])
        size, packed = around.sizes(last.handle)
        self.limits.check_unpacked(size, packed)
        with contextlib.ExitStack() as until_whole:
            file = until_whole.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._scratch))
            for chunk in around.chunks(last.handle):
                file.write(chunk)
            until_whole.pop_all()
            return file

    def _unpacked(self, chain: Chain, packed: IO[bytes], unpack: Callable, packed_size: int) -> tuple[IO[bytes], str]:
        """A packed tar file without its packing, and why it breaks off, if it does."""
        if self._scratch is None or packed_size < ON_DISK:
            with contextlib.ExitStack() as until_whole:
                plain = until_whole.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY, dir=self._scratch))
                problem = self._copy(unpack(packed), plain, packed_size)
                until_whole.pop_all()
                return plain, problem
        key = repr((chain, packed_size, os.stat(str(chain[0])).st_mtime_ns))
        kept = Path(self._scratch, f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.tar")
        note = kept.with_suffix(".problem")
        if not kept.exists():
            tmp_path = kept.with_suffix(f".{os.getpid()}.tmp")
            try:
                with open(tmp_path, "wb") as plain:
                    note.write_text(self._copy(unpack(packed), plain, packed_size), encoding="utf-8")
                tmp_path.rename(kept)
            finally:
                tmp_path.unlink(missing_ok=True)
        return open(kept, "rb"), note.read_text(encoding="utf-8")

    def _copy(self, source: Any, target: IO[bytes], packed_size: int) -> str:
        """Copy as much as there is, and say why there isn't more. Raises LimitError where an archive grows too far."""
        size = 0
        try:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                self.limits.check_unpacked(size, packed_size)
                target.write(chunk)
        except LimitError:
            raise
        except DAMAGE as error:
            if is_machine_error(error):
                raise
            return f"the archive is cut short or damaged ({describe_error(error)})"
        return ""


def _weight(file: IO[bytes]) -> int:
    """Bytes of memory that a temporary file holds."""
    if not isinstance(file, tempfile.SpooledTemporaryFile):
        return 0
    return min(size_of(file), IN_MEMORY)
