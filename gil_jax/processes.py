"""What a process asks of its operating system."""

import ctypes
import os
import threading
import time


def available_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(parent: int) -> None:
    """End this process when `parent`, the process id that started it, is gone: nothing outlives a killed run."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def keep_memory() -> None:
    """Keep freed memory for the next step instead of giving it back: on a CPU the page faults cost a quarter of a step.

    Sets M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD of mallopt(3). Nothing happens where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in ((-8, 1), (-4, 0), (-1, -1)):
            library.mallopt(option, value)
