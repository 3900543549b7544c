"""Metrics of a run: metrics.jsonl, TensorBoard event files and a progress bar."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm


class MetricsLog:
    """A log of numbers by step. Lines of steps that a resumed run will repeat are dropped, so that none stands twice.

    workdir: its metrics.jsonl gets one JSON object a line, with "step"; its tensorboard/ the same numbers.
    start: the step that the run goes on from; steps: where it ends; writes: False on all processes but one.
    """

    def __init__(self, workdir: str, start: int, steps: int, writes: bool = True):
        self.writes = writes
        self._last_step = start
        self.start_timing()
        if not writes:
            return
        folder = Path(workdir)
        path = folder / "metrics.jsonl"
        kept = [line for line in _whole_lines(path) if not _is_again(json.loads(line), start, steps)]
        tmp_path = path.with_suffix(".tmp")
        tmp_path.write_text("".join(kept), encoding="utf-8")
        tmp_path.replace(path)
        self.lines = path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        calm = 0.5 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(total=steps, initial=start, desc="train", unit="step", mininterval=calm, smoothing=0.05)

    def advance(self) -> None:
        """Advance the progress bar by one step."""
        if self.writes:
            self.bar.update()

    def write(self, step: int, metrics: dict[str, float], shown: tuple[str, ...] = ()) -> None:
        """Log the numbers of a step; those named in `shown` stand at the progress bar."""
        if not self.writes:
            return
        values = {name: float(value) for name, value in metrics.items()}
        record = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.lines.write(json.dumps({"step": step, **record}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if shown:
            self.bar.set_postfix({name: f"{values[name]:.4g}" for name in shown if name in values})

    def start_timing(self) -> None:
        """Count time from now on: the first step begins."""
        self._mark, self._waited, self._excluded = time.perf_counter(), 0.0, 0.0

    @contextmanager
    def waiting_for_input(self) -> Iterator[None]:
        """Count the time inside as spent waiting for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextmanager
    def not_timed(self) -> Iterator[None]:
        """Leave the time inside (an evaluation, a save) out of the steps' time."""
        began = time.perf_counter()
        yield
        self._excluded += time.perf_counter() - began

    def timing(self, step: int) -> dict[str, float]:
        """Steps per second since the last call, and the share of that time spent waiting for input."""
        passed = max(time.perf_counter() - self._mark - self._excluded, 1e-9)
        rates = {"steps_per_second": (step - self._last_step) / passed, "input_wait_share": self._waited / passed}
        self._last_step = step
        self.start_timing()
        return rates

    def end_progress(self) -> None:
        """Stop the progress bar where it is: the training is over."""
        if self.writes:
            self.bar.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self.writes:
            self.bar.close()
            self.board.close()
            self.lines.close()


def _whole_lines(path: Path) -> list[str]:
    """Complete lines of a log; a killed run may have left half a line at its end."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    whole = []
    for line in lines:
        try:
            json.loads(line)
        except json.JSONDecodeError:
            continue
        whole.append(line if line.endswith("\n") else line + "\n")
    return whole


def _is_again(record: dict, start: int, steps: int) -> bool:
    """Whether a run resumed at `start` will log this record again. The last step is always evaluated again."""
    evaluated_again = start >= steps and any(name.startswith("eval/") for name in record)
    return record["step"] > start or (record["step"] == start and evaluated_again)
