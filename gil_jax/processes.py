"""Cores, signals, allocator and orphaned processes."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # options of mallopt(3)
# Ctrl-C, the notice of schedulers, and the one that Slurm sends on request (--signal=USR1@120).
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


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


class Interrupted(BaseException):
    """A stop was requested while the main thread waited."""


class StopRequests:
    """Requests to stop, by signals.

    number: of the first signal, or None. phase: as long as it is not empty nothing needs to be saved, and a signal ends
    the process at once, with the phase in its message; otherwise the first one is a request and the second ends it.
    """

    def __init__(self, several_processes: bool = False):
        self.number: int | None = None
        self.phase = ""
        self.several_processes = several_processes
        self._waits = False
        self._end: threading.Timer | None = None

    def end_within(self, seconds: float, message: str, status: int) -> None:
        """End this process with `message` if the stop takes longer: a worker that is stopped never ends by itself."""

        def end() -> None:
            print(f"{message}. Something did not end in {seconds:.0f} s, and is left", file=sys.stderr, flush=True)
            os._exit(status)

        self._end = threading.Timer(seconds, end)
        self._end.daemon = True
        self._end.start()

    def cancel_end(self) -> None:
        """Let the process go on: everything ended in time."""
        if self._end is not None:
            self._end.cancel()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let a signal raise Interrupted inside, where the main thread may wait for ever."""
        self._waits = True
        try:
            if self.number is not None and not self.several_processes:
                raise Interrupted
            yield
        finally:
            self._waits = False

    def _handle(self, number: int, _: object) -> None:
        """Note the signal, in the main thread between two of its instructions."""
        first, self.number = self.number is None, self.number or number
        if self._waits and first and not self.several_processes:
            raise Interrupted

    def _listen(self, notices: int) -> None:
        """Read the signals as they arrive, also while the main thread is inside of compiled code."""
        seen = 0
        while numbers := os.read(notices, 1):
            if numbers[0] not in STOPS:
                continue
            seen += 1
            if self.several_processes and seen == 1:
                os.kill(os.getpid(), signal.SIGTERM)  # jax's notice, by which all processes stop at the same step
            elif self.phase or seen > 1:
                name = signal.Signals(numbers[0]).name
                print(f"Stopped by {name} {self.phase or 'at once, at the second signal'}", file=sys.stderr, flush=True)
                os._exit(128 + numbers[0])


@contextmanager
def stop_signals(phase: str = "", several_processes: bool = False) -> Iterator[StopRequests]:
    """Turn SIGINT, SIGTERM and SIGUSR1 into requests to stop.

    several_processes: of one run, which stop together by jax's notice of preemption, which SIGTERM is for.
    Outside of the main thread signals keep their handlers.
    """
    requests = StopRequests(several_processes)
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    requests.phase = phase
    names = [name for name in STOPS if not (several_processes and name == signal.SIGTERM)]
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    before = {name: signal.signal(name, requests._handle) for name in names}
    wakeup = signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
    listener = threading.Thread(target=requests._listen, args=(reads,), daemon=True)
    listener.start()
    try:
        yield requests
    finally:
        requests.phase = ""
        requests.cancel_end()
        signal.set_wakeup_fd(wakeup)
        for name, handler in before.items():
            signal.signal(name, handler)
        os.close(writes)
        listener.join()
        os.close(reads)
