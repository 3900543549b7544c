"""What a folder or an archive holds that may be a sequence."""

import struct
from collections.abc import Callable
from typing import NamedTuple

from data_prep.archives import Chain

HANDLE = struct.Struct("<qq")  # how a member of an archive is found again


class Unit(NamedTuple):
    """Files of one folder that may be a sequence: its pictures, or one sequence file.

    levels: names of the folders above the files, from the outermost, without suffixes; place: where they lie, for a
    reader; chain, folder, names, handles: as in RawSequence; said: the labels in the names of the pictures, None for
    names without; is_file: a sequence file.
    """

    levels: tuple[str, ...]
    place: str
    chain: Chain
    folder: str
    names: str
    handles: bytes
    said: tuple[tuple[str, ...] | None, ...] = ()
    is_file: bool = False

    @property
    def path(self) -> str:
        """The place of a sequence file, or of the folder of pictures."""
        return f"{self.place}/{self.names}" if self.is_file else self.place

    def only(self, keep: Callable[[str], bool]) -> "Unit":
        """The same with some of the files."""
        names = self.names.split("/")
        kept = [i for i, name in enumerate(names) if keep(name)]
        size = HANDLE.size
        handles = b"".join(self.handles[i * size : (i + 1) * size] for i in kept) if self.chain else b""
        return self._replace(names="/".join(names[i] for i in kept), handles=handles)
