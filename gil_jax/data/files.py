"""Files that are whole or absent, whatever stops the process or the machine."""

import contextlib
import ctypes
import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

# Folders of some network file systems can't be flushed; their servers keep the order of operations themselves.
_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Write a file whole or not at all; text as UTF-8. After a power cut it holds the old content or the new one.

    Raises OSError where the disk does not take it; what was there before stays.
    """
    path = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    tmp_path = temporary_name(path)
    try:
        with open(tmp_path, "wb") as file:
            file.write(data)
        replace_durably(tmp_path, path)
    finally:
        tmp_path.unlink(missing_ok=True)


def replace_durably(tmp_path: str | os.PathLike, path: str | os.PathLike) -> None:
    """Rename a finished file or folder to `path`, flushed first, so that a power cut can't leave a half one there.

    Replaces a file that is there; a folder has to be removed before. Raises OSError.
    """
    tmp_path, path = Path(tmp_path), Path(path)
    if tmp_path.is_dir():
        for folder, _, names in os.walk(tmp_path, topdown=False):
            for name in names:
                _flush(os.path.join(folder, name))
            _flush(folder)
    else:
        _flush(tmp_path)
    os.replace(tmp_path, path)
    _flush(path.parent)


def flush_file_system(folder: str | os.PathLike) -> None:
    """Flush all that was written to the file system of `folder`: for many files far faster than one by one."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):  # Linux alone has it
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if library.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Name a file beside `path` to write to, another one in every process and thread."""
    return path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")


def _flush(path: str | os.PathLike) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH or not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: str | os.PathLike, waiting: str = "") -> Iterator[None]:
    """Hold the lock file `path` for one process at a time; a dead owner holds none.

    waiting: printed where another process holds it. Raises OSError where the folder can't be written.
    """
    try:
        import fcntl
    except ImportError as error:
        raise OSError("this needs Linux or macOS; on Windows work inside WSL") from error
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                tqdm.write(waiting, file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
