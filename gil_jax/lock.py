"""One training at a time for a workdir."""

import errno
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

# What the locks of some network file systems raise: there two trainings can't see each other.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


class WorkdirLock:
    """<workdir>/.lock, held by the training; the kernel lets go of it when its process ends, however it ends."""

    def __init__(self, workdir: str):
        self.path = Path(workdir) / ".lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Make the workdir and hold its lock. Raises ValueError that names the owner where another process holds it."""
        import fcntl  # not on Windows, where trainings run under WSL

        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 1000)
            os.close(descriptor)
            raise ValueError(
                f"{self.path.parent} is in use by {_describe(owner)}: wait for it, stop it, or give another --workdir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        now = datetime.now(UTC).isoformat(timespec="seconds")
        about = {"host": socket.gethostname(), "process": os.getpid(), "since": now}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "WorkdirLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _describe(owner: bytes) -> str:
    try:
        about = json.loads(owner)
        return f"the training of process {about['process']} on {about['host']}, since {about['since']}"
    except (ValueError, KeyError, TypeError):
        return "another training"
