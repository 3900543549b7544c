"""Several processes that train together: joining them, an order among them, and what becomes of a lost one."""

import ctypes
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

Made = TypeVar("Made")
SILENCE = 30  # seconds after which a process that sends nothing counts as lost
PATIENCE = 300  # seconds that processes wait for each other at the start
ADVICE = (
    "Look at what that one printed, then start all again with the same command: they go on from the latest checkpoint"
)


def join_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None, patience: int = PATIENCE
) -> None:
    """Connect this process to the others of the run; before the first array.

    coordinator: "<host>:<port>" of process 0; all None on a TPU pod, under Slurm or Open MPI, where jax finds them.
    Raises ConnectionError where process 0, or another, does not come within `patience` seconds.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if coordinator and process_id:
        _await_answer(coordinator, patience)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=SILENCE,
            shutdown_timeout_seconds=SILENCE,
        )
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        raise ConnectionError(
            f"the {num_processes or ''} processes of the run did not find each other ({_first_line(error)}): start the "
            "same command with every --process_id, and one --coordinator that all hosts reach"
        ) from error
    ctypes.CDLL(None).signal(signal.SIGABRT, _ON_ABORT)


def _await_answer(address: str, patience: float) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--coordinator={address}: give <host>:<port> of process 0")
    until = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise ConnectionError(
                    f"--coordinator={address}: no answer in {patience:.0f} s ({error}); start process 0 there"
                ) from error
            time.sleep(0.5)


@contextmanager
def lost_processes_named() -> Iterator[None]:
    """Raise ConnectionError, one sentence, where another process of the run is lost inside."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise ConnectionError(
            f"this process lost another process of the run ({_first_line(error)}). {ADVICE}"
        ) from error


def _explain_abort(_: int) -> None:
    """Explain why jax aborts this process, and end it with status 1."""
    text = f"error: this process lost another process of the run (jax says above how it noticed). {ADVICE}\n"
    os.write(2, text.encode())
    os._exit(1)


# jax aborts the process from a thread of its own where a heartbeat fails; handlers of the signal module never run then.
_ON_ABORT = ctypes.CFUNCTYPE(None, ctypes.c_int)(_explain_abort)


def first_process_first(make: Callable[[], Made]) -> Made:
    """Run `make` on process 0 first, so that the others find its result on a shared disk.

    Where it fails on process 0, all processes raise.
    """
    made = []
    on_first_process(lambda: made.append(make()))
    return made[0] if made else make()


def on_first_process(make: Callable[[], Any]) -> Any:
    """Run `make` on process 0 alone and return its result, which JSON can hold, on all processes.

    Where it raises there, the others raise ValueError with its message.
    """
    if jax.process_count() == 1:
        return make()
    answer, failure = {}, None
    if jax.process_index() == 0:
        try:
            answer = {"result": make()}
        except Exception as error:
            answer, failure = {"error": str(error)}, error
    answer = json.loads(_from_first(json.dumps(answer)))
    if failure is not None:
        raise failure
    if "error" in answer:
        raise ValueError(f"process 0: {answer['error']}")
    return answer["result"]


def check_alike(values: dict[str, Any]) -> None:
    """Raise ValueError on all processes where one was started with other values than process 0.

    values: name -> what JSON can hold.
    """
    if jax.process_count() == 1:
        return
    first = json.loads(_from_first(json.dumps(values)))
    ours = json.loads(json.dumps(values))
    lines = [
        f"  {name}: {first.get(name)!r} on process 0, {ours.get(name)!r} on process {jax.process_index()}"
        for name in sorted(first.keys() | ours.keys())
        if first.get(name) != ours.get(name)
    ]
    differing = [text for text in _from_all("\n".join(lines)) if text]
    if differing:
        raise ValueError("the processes of a run have to be started alike:\n" + "\n".join(differing))


def print_once(text: str) -> None:
    """Print a line on process 0, above a progress bar."""
    if jax.process_index() == 0:
        tqdm.write(text)


def _from_first(text: str) -> str:
    """The text of process 0, on all processes."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(codes))))
    if jax.process_index() > 0:
        codes = np.zeros(size, np.int32)
    return np.asarray(multihost_utils.broadcast_one_to_all(codes)).astype(np.uint8).tobytes().decode()


def _from_all(text: str, most: int = 4000) -> list[str]:
    """The texts of all processes, each cut off after `most` bytes."""
    codes = np.zeros(most, np.int32)
    held = np.frombuffer(text.encode()[:most], np.uint8)
    codes[: len(held)] = held
    gathered = np.asarray(multihost_utils.process_allgather(codes)).reshape(-1, most)
    return [row.astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="replace") for row in gathered]


def _first_line(error: Any) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
