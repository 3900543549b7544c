"""All frames of a data set, decoded, in one flat file that the readers of a machine share through the page cache."""

import fcntl
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm


def open_memmap(path: Path, frames: int, height: int, fingerprint: str, sequences: Iterable[np.ndarray]) -> Path:
    """The cache file of a data set in `path`; the first who asks writes it from `sequences`, others wait for that.

    The file holds uint8 [frames, height, height] and ends with the fingerprint, which is written last: a file that
    is not whole, or of other data, is written again. Raises OSError where the disk has no room.
    """
    file = path / f"frames-{fingerprint}.u8"
    size = frames * height * height
    if _is_whole(file, size, fingerprint):
        return file
    with open(path / ".frames.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_whole(file, size, fingerprint):
            return file
        for old in path.glob("frames-*.u8*"):
            old.unlink()
        aside = file.with_suffix(".u8.tmp")
        try:
            with open(aside, "wb") as target, tqdm(total=frames, unit="frame", desc="cache", unit_scale=True) as bar:
                os.posix_fallocate(target.fileno(), 0, size + len(fingerprint))
                for sequence in sequences:
                    target.write(sequence)
                    bar.update(len(sequence))
                target.write(fingerprint.encode())
            aside.rename(file)
        except OSError as error:
            aside.unlink(missing_ok=True)
            message = f"config.data.cache='memmap' needs {size / 1e9:.1f} GB at {file} ({error.strerror or error})"
            raise OSError(error.errno, f"{message}: make room, or set config.data.cache=''") from error
    return file


def map_frames(file: Path, height: int) -> np.ndarray:
    """The frames of a cache file, uint8 [frames, height, height], read from the disk as they are touched."""
    with open(file, "rb") as source:
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
    frames = len(mapped) // (height * height)
    return np.frombuffer(mapped, np.uint8, frames * height * height).reshape(frames, height, height)


def _is_whole(file: Path, size: int, fingerprint: str) -> bool:
    if not file.exists() or file.stat().st_size != size + len(fingerprint):
        return False
    with open(file, "rb") as source:
        source.seek(size)
        return source.read() == fingerprint.encode()
