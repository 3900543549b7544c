"""Cores, signals, allocator and orphaned processes."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # options of mallopt(3)


def available_cores() -> int:
    """The CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(parent: int) -> None:
    """End this process when its parent process (id `parent`) is gone, so that nothing outlives a killed run."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def keep_freed_memory() -> None:
    """Keep freed memory for the next step instead of returning it: on a CPU the page faults cost a quarter of a step.

    Sets options of mallopt(3); does nothing where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            library.mallopt(option, value)


@contextmanager
def stop_signals(enabled: bool = True) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; a second one ends the process at once.

    Yields a function that tells whether a stop was requested. Not enabled, or outside of the main thread, signals keep
    their handlers.
    """
    requested = threading.Event()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.getsignal(name) for name in names}

    def request(*_: object) -> None:
        requested.set()
        for name in names:
            signal.signal(name, before[name])

    for name in names:
        signal.signal(name, request)
    try:
        yield requested.is_set
    finally:
        for name in names:
            signal.signal(name, before[name])
