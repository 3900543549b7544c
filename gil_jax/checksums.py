"""Checksums of a folder's files, so that damage is seen before the files are used."""

import hashlib
import json
from pathlib import Path

from gil_jax.data.files import write_atomically

CHECKSUMS = "checksums.json"
# Written by orbax after the checksums, and not needed to read a checkpoint.
_LATER = {CHECKSUMS, "commit_success.txt", "_CHECKPOINT_METADATA"}


def write_checksums(folder: Path) -> None:
    """Write <folder>/checksums.json: size in bytes and SHA-256 of all files below."""
    sums = {name: {"bytes": path.stat().st_size, "sha256": _digest(path)} for name, path in _files(folder).items()}
    write_atomically(folder / CHECKSUMS, json.dumps(sums, indent=1) + "\n")


def find_damage(folder: Path) -> str | None:
    """Compare a folder with its checksums: a description of the first difference, or None where there is none.

    Raises FileNotFoundError where the folder has no checksums.json.
    """
    path = folder / CHECKSUMS
    try:
        sums = json.loads(path.read_bytes())
        expected = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in sums.items()}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return f"{path} can't be read ({type(error).__name__})"
    there = _files(folder)
    for name, (size, digest) in expected.items():
        if name not in there:
            return f"{folder / name} is missing"
        try:
            found = there[name].stat().st_size
            if found != size:
                return f"{folder / name} holds {found} of {size} bytes"
            if _digest(there[name]) != digest:
                return f"{folder / name} is not what was written (checksum)"
        except OSError as error:
            return f"{folder / name} can't be read ({error.strerror})"
    return None


def _files(folder: Path) -> dict[str, Path]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in _LATER)
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
