"""Monitoring of the steps: updates that were skipped, memory of the devices, profiles."""

import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from gil_jax.distributed import print_once

BEHIND = 2  # steps that the device may be ahead, so that it never waits to be watched


class SkippedSteps:
    """Reports steps whose update was skipped because it was not finite, and ends a training that only skips.

    limit: steps in a row that may be skipped. kept: returns the step of the latest checkpoint, for the message.
    """

    def __init__(self, limit: int, kept: Callable[[], int | None]):
        self.limit, self.kept = limit, kept
        self._pending: deque[tuple[int, dict]] = deque()
        self._in_a_row = 0

    def add(self, step: int, metrics: dict[str, Any]) -> None:
        """Add the metrics of a step. Raises FloatingPointError where more than `limit` in a row were skipped."""
        self._pending.append((step, metrics))
        while len(self._pending) > BEHIND:
            self._look(*self._pending.popleft())

    def finish(self) -> None:
        """Look at the steps that were not looked at yet."""
        while self._pending:
            self._look(*self._pending.popleft())

    def _look(self, step: int, metrics: dict[str, Any]) -> None:
        if not float(jax.device_get(metrics["skipped"])):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        what = f"Step {step} was not finite ({', '.join(wrong) or 'statistics of the network'})"
        if self._in_a_row <= self.limit:
            print_once(f"{what}: its update is skipped")
            return
        rate = values["learning_rate"]
        raise FloatingPointError(
            f"{what}, nor were the {self.limit} steps before it. The latest checkpoint is of step "
            f"{self.kept()}. Lower the learning rate ({rate:g} now) or clip gradients, and go on in the same workdir: "
            f"--config.optim.learning_rate={rate / 10:g} --config.train.accept_changes=\"('optim.learning_rate',)\""
        )


class Profile:
    """Profiles the steps first .. last into <workdir>/profile, for TensorBoard or xprof. steps: (first, last) or ()."""

    def __init__(self, workdir: str, steps: tuple[int, ...]):
        self.folder = Path(workdir) / "profile"
        self.first, self.last = steps if steps else (0, 0)
        self._runs = False

    def before(self, step: int) -> None:
        """Begin, if `step` is the first."""
        if self.first and step == self.first:
            jax.profiler.start_trace(str(self.folder))
            self._runs = True

    def after(self, step: int, state: Any) -> None:
        """End, if `step` is the last; waits for the state, so that the work of the steps is in it."""
        if self._runs and step >= self.last:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """End a profile that runs."""
        if self._runs:
            jax.profiler.stop_trace()
            self._runs = False
            print_once(f"{self.folder}: the profile of steps {self.first} to {self.last}")


def device_memory() -> dict[str, float]:
    """The most memory that a device of this process held so far, in GiB; empty where devices don't say (CPU)."""
    held = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()]
    peaks = [peak for peak in held if peak is not None]
    return {"device_memory_gib": max(peaks) / 2**30} if peaks else {}
