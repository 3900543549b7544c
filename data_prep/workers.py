"""A pool of processes that read raw data; it ends with its owner."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2

from data_prep.archives import Archives
from data_prep.limits import DEFAULT_LIMITS, Limits
from gil_jax.processes import available_cores, end_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerDied(ValueError):
    """Error of a pool: a process ended before its work was done."""


class Workers:
    """Run `function(archives, job)` for many jobs, in this process or in several; every process has its own archives.

    processes: their number, None for one per core; the other arguments as in Archives. Use it in a `with` block.
    """

    def __init__(
        self,
        processes: int | None,
        passwords: tuple[bytes, ...] = (),
        scratch: str | None = None,
        zip_encoding: str = "",
        limits: Limits = DEFAULT_LIMITS,
    ):
        self.processes = processes or available_cores()
        self._arguments = (passwords, scratch, zip_encoding, limits)
        self._archives: Archives | None = None
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._archives:
            self._archives.close()

    def run(self, function: Callable[[Archives, Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield the results in the order in which they are ready.

        Raises the exception of a job, and WorkerDied where a process was killed.
        """
        jobs = list(jobs)
        if self.processes == 1 or (len(jobs) == 1 and not self._pool):
            self._archives = self._archives or Archives(*self._arguments)
            yield from (function(self._archives, job) for job in jobs)
            return
        # A fork would copy the threads of the caller (JAX has many); spawned processes start clean.
        self._pool = self._pool or ProcessPoolExecutor(
            self.processes,
            mp_context=get_context("spawn"),
            initializer=_start,
            initargs=(os.getpid(), *self._arguments),
        )
        jobs.reverse()
        running: set[Future] = set()
        try:
            while jobs or running:
                while jobs and len(running) < 2 * self.processes:
                    running.add(self._pool.submit(_call, function, jobs.pop()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise WorkerDied("a worker process was killed; most often the memory ran out (see --processes)") from error
        finally:
            for future in running:
                future.cancel()


_archives: Archives | None = None


def _start(owner: int, *arguments: Any) -> None:
    global _archives
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the owner decides
    end_with_parent(owner)
    cv2.setNumThreads(1)
    _archives = Archives(*arguments)


def _call(function: Callable[[Archives, Job], Result], job: Job) -> Result:
    assert _archives is not None, "_start runs first"
    return function(_archives, job)
