"""Faults of raw data: a place, a reason, and how both are shown to a reader."""

import errno
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from typing import NamedTuple

# zipfile and tarfile raise RuntimeError, ValueError and IndexError for headers that make no sense.
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError)
DAMAGE += (RuntimeError, ValueError, IndexError)
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Fault(NamedTuple):
    """A fault in raw data. place: a path through folders and archives; reason: its kind, then ": " and the details."""

    place: str
    reason: str

    def __str__(self) -> str:
        return printable(f"{self.place}: {self.reason}")


def printable(text: str) -> str:
    r"""Escape what a terminal would not show: line breaks, escape codes, bytes that are no text (as \xff)."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def group_faults(faults: Iterable[Fault]) -> list[Fault]:
    """Merge faults of one kind, the reason up to its first ": ", into the first of them, with their number."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.reason.split(": ", 1)[0], []).append(fault)
    merged = []
    for first, *others in kinds.values():
        more = f" (and {len(others):,} more of this kind)" if others else ""
        merged.append(Fault(first.place, first.reason + more))
    return merged


def describe_error(error: BaseException) -> str:
    """Put an exception into a few words."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def is_machine_error(error: BaseException) -> bool:
    """Tell a full disk, too many open files and the like from damaged data."""
    return isinstance(error, OSError) and error.errno in _MACHINE
