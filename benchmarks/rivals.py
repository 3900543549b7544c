"""Processes that are compared by the benchmarks beside PyTorch: one works at a time, and all take turns."""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from gil_jax.processes import end_with_parent, keep_freed_memory

JAX, SAME, PLAIN = "JAX", "PyTorch, same allocator", "PyTorch as it comes"
CLASSES = 74
UNCOUNTED = 3  # calls of a turn
NETWORKS = {
    "baseline": {"num_classes": CLASSES},
    "gaitset": {},
    "gaitpart": {},
    "gaitgl": {"num_classes": CLASSES},
    "gln": {"height": 64},
    "gaitbase": {"num_classes": CLASSES},
    "deepgaitv2": {"num_classes": CLASSES},
}


class Rival:
    """A process that times calls of its own.

    build(*arguments) -> (calls, facts) runs in the process, once; calls: name -> a function that returns when its work
    is done. keeps_memory: freed memory stays with the process (`keep_freed_memory`), or the usual allocator works.
    """

    def __init__(self, build: Callable, *arguments, keeps_memory: bool):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._name = build.__name__
        self._process = context.Process(
            target=_serve, args=(theirs, os.getpid(), keeps_memory, build, arguments), daemon=True
        )
        self._process.start()
        theirs.close()
        self.facts = self._receive()

    def seconds(self, call: str) -> float:
        """What one call took."""
        self._pipe.send(call)
        return self._receive()

    def close(self) -> int:
        """End the process; the most bytes that it held (ru_maxrss)."""
        self._pipe.send(None)
        peak = self._receive()
        self._process.join()
        return peak

    def _receive(self):
        try:
            return self._pipe.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(
                f"The process of {self._name} ended with {self._process.exitcode}: -9 is too little memory, "
                "otherwise its error stands above"
            ) from None


def _serve(pipe, parent: int, keeps_memory: bool, build: Callable, arguments: tuple) -> None:
    end_with_parent(parent)
    if keeps_memory:
        keep_freed_memory()
    calls, facts = build(*arguments)
    pipe.send(facts)
    while (name := pipe.recv()) is not None:
        start = time.perf_counter()
        calls[name]()
        pipe.send(time.perf_counter() - start)
    pipe.send(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def start_rivals(build_jax: Callable, build_torch: Callable, chosen, *arguments) -> dict[str, Rival]:
    """Start build_jax(*arguments, dtype, convolution), then twice build_torch(*arguments); chosen: of `options`."""
    rivals = {JAX: Rival(build_jax, *arguments, chosen.dtype, chosen.convolution, keeps_memory=True)}
    if not chosen.no_torch and find_spec("torch"):
        rivals[SAME] = Rival(build_torch, *arguments, keeps_memory=True)
        rivals[PLAIN] = Rival(build_torch, *arguments, keeps_memory=False)
    return rivals


def take_turns(rivals: dict[str, Rival], call: str, rounds: int) -> dict[str, float]:
    """The median seconds of a call of every rival; each turn begins with calls that do not count.

    They fetch again the memory that the system took back while the others worked, as no run has to.
    """
    times = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, rival in rivals.items():
            for _ in range(UNCOUNTED):
                rival.seconds(call)
            times[name].append(rival.seconds(call))
    return {name: statistics.median(values) for name, values in times.items()}


def options(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark beside PyTorch."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of JAX alone")
    parser.add_argument(
        "--convolution", default="auto", choices=["auto", "xla"], help="of JAX: config.model.convolution"
    )
    parser.add_argument("--no-torch", action="store_true", help="measure JAX alone")
    return parser


def print_row(*cells) -> None:
    """A row of a table in Markdown."""
    print("| " + " | ".join(cells) + " |", flush=True)


def walk(draw: np.random.Generator, frames: int) -> np.ndarray:
    """An upright blob that moves: uint8 [frames, 64, 64]."""
    y, x = np.mgrid[:64, :64]
    width = 8 + 4 * np.sin(np.arange(frames) / 4 + draw.uniform()) + draw.uniform(size=frames)
    inside = np.abs(x - 32) < width[:, None, None] * np.sin(np.pi * y / 64) ** 0.5
    return np.where(inside, 255, 0).astype(np.uint8)
