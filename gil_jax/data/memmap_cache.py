"""All frames of a data set, decoded, in one flat file that the processes of a machine share through the page cache."""

import errno
import mmap
import os
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from gil_jax.data.files import locked, replace_durably

BLOCK = 2**20  # bytes of a checksum
_SAMPLED = 16  # blocks that are checked when the file is opened


def cache_path(path: Path, identity: str) -> Path:
    """Name the cache file of the data set in `path`."""
    return path / f"frames-{identity}.u8"


def open_memmap(path: Path, frames: int, height: int, identity: str, sequences: Iterable[np.ndarray]) -> Path:
    """Return the cache file of the data set in `path`; the first caller writes it, concurrent callers wait.

    identity: of frames, labels and lengths, in ASCII. The file holds uint8 [frames, height, height], a CRC-32 of every
    MiB of it, and the identity, which is written
    last: a file that is incomplete, of other data, or changed in one of the 16 MiB that are read here is written
    again from `sequences`. `changed_blocks` reads all of it. Raises OSError where the disk has no room or the folder
    can't be written.
    """
    file, size = cache_path(path, identity), frames * height * height
    if _is_intact(file, size, identity):
        return file
    try:
        with locked(path / ".frames.lock", f"Another process writes {file}: waiting for it"):
            if not _is_intact(file, size, identity):
                _write_cache(file, size, identity, sequences)
    except OSError as error:
        message = f"config.data.cache='memmap' needs {_format_size(size)} at {file} ({error.strerror or error})"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "set config.data.cache='', or config.data.dir to a copy in a folder that can be written"
        else:
            fix = "make room, or set config.data.cache=''"
        raise OSError(error.errno, f"{message}: {fix}") from error
    return file


def map_frames(file: Path, frames: int, height: int) -> UInt8[np.ndarray, "s h w"]:
    """Map the frames of a cache file, uint8 [frames, height, height]; they are read from the disk when accessed."""
    size = frames * height * height
    if size == 0:
        return np.zeros((0, height, height), np.uint8)
    with open(file, "rb") as source:
        mapped = mmap.mmap(source.fileno(), size, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, np.uint8).reshape(frames, height, height)


def changed_blocks(file: Path, size: int, most: int | None = None) -> list[int]:
    """Compare blocks of a cache file with their checksums; return the numbers of those that differ.

    size: bytes of all frames. most: blocks to read, evenly spaced; None for all.
    """
    count = -(-size // BLOCK)
    chosen = range(count) if most is None or most >= count else np.linspace(0, count - 1, most).astype(int).tolist()
    with open(file, "rb") as source:
        source.seek(size)
        checksums = np.frombuffer(source.read(4 * count), "<u4").tolist()
        changed = []
        for block in chosen:
            source.seek(block * BLOCK)
            if zlib.crc32(source.read(min(BLOCK, size - block * BLOCK))) != checksums[block]:
                changed.append(block)
    return changed


def is_complete(file: Path, size: int, identity: str) -> bool:
    """Tell a cache file that was written to its end, for these data; size: bytes of all frames."""
    end = size + 4 * -(-size // BLOCK)
    if not file.exists() or file.stat().st_size != end + len(identity):
        return False
    with open(file, "rb") as source:
        source.seek(end)
        return source.read() == identity.encode()


def _is_intact(file: Path, size: int, identity: str) -> bool:
    return is_complete(file, size, identity) and not changed_blocks(file, size, _SAMPLED)


def _write_cache(file: Path, size: int, identity: str, sequences: Iterable[np.ndarray]) -> None:
    for old in file.parent.glob("frames-*.u8*"):
        old.unlink()
    tmp_path = file.with_suffix(".u8.tmp")
    try:
        with open(tmp_path, "wb") as target:
            _reserve(target, size)
            checksums = _write_frames(target, size, sequences)
            target.write(np.array(checksums, "<u4").tobytes() + identity.encode())
        replace_durably(tmp_path, file)
    finally:
        tmp_path.unlink(missing_ok=True)


def _reserve(target: IO[bytes], size: int) -> None:
    """Take the room of all frames on the disk, so that it can't run out later. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(target.fileno(), 0, max(size, 1))
    elif shutil.disk_usage(os.path.dirname(target.name)).free < size:  # macOS can't reserve
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    target.truncate(size)


def _write_frames(target: IO[bytes], size: int, sequences: Iterable[np.ndarray]) -> list[int]:
    """Write the frames of all sequences; return the CRC-32 of every block."""
    checksums, checksum, room = [], 0, BLOCK
    with tqdm(total=size, unit="B", desc="cache", unit_scale=True) as bar:
        for sequence in sequences:
            rest = np.ascontiguousarray(sequence).reshape(-1).data
            bar.update(len(rest))
            while len(rest):
                part, rest = rest[:room], rest[room:]
                target.write(part)
                checksum, room = zlib.crc32(part, checksum), room - len(part)
                if room == 0:
                    checksums.append(checksum)
                    checksum, room = 0, BLOCK
    return [*checksums, checksum] if room < BLOCK else checksums


def _format_size(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
