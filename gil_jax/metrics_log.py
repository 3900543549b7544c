"""What a run says while it goes: metrics.jsonl, TensorBoard event files and a progress bar."""

import json
import math
import sys
import time
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm


class MetricsLog:
    """Writes numbers by step. Lines of steps that a restart will do again are dropped, so that none stands twice.

    workdir: its metrics.jsonl gets one JSON object a line, with "step"; its tensorboard/ the same numbers.
    start: the step that the run goes on from; steps: where it ends; writes: False on all processes but one.
    """

    def __init__(self, workdir: str, start: int, steps: int, writes: bool = True):
        self.writes = writes
        self.mark = (time.perf_counter(), start)
        if not writes:
            return
        folder = Path(workdir)
        path = folder / "metrics.jsonl"
        kept = [line for line in _whole_lines(path) if not _is_again(json.loads(line), start, steps)]
        aside = path.with_suffix(".tmp")
        aside.write_text("".join(kept), encoding="utf-8")
        aside.replace(path)
        self.lines = path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        calm = 0.5 if sys.stderr.isatty() else 10.0
        self.bar = tqdm(total=steps, initial=start, desc="train", unit="step", mininterval=calm, smoothing=0.05)

    def advance(self) -> None:
        """One more step is under way."""
        if self.writes:
            self.bar.update()

    def write(self, step: int, metrics: dict[str, float], show: tuple[str, ...] = ()) -> None:
        """Keep numbers of a step; those named in `show` stand beside the progress bar."""
        if not self.writes:
            return
        values = {name: float(value) for name, value in metrics.items()}
        record = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.lines.write(json.dumps({"step": step, **record}) + "\n")
        self.lines.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if show:
            self.bar.set_postfix({name: f"{values[name]:.4g}" for name in show if name in values})

    def rate(self, step: int, waited: float) -> tuple[float, float]:
        """Steps per second since the last call, and the share of that time that the input took (`waited`, seconds)."""
        now = time.perf_counter()
        (before, last), self.mark = self.mark, (now, step)
        passed = max(now - before, 1e-9)
        return (step - last) / passed, waited / passed

    def end_progress(self) -> None:
        """The training is over: the bar stays as it is."""
        if self.writes:
            self.bar.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.writes:
            self.bar.close()
            self.board.close()
            self.lines.close()


def _whole_lines(path: Path) -> list[str]:
    """The lines of a log that a killed run may have left with half a line at its end."""
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
    """Will the run from `start` write this record anew? The last step is always evaluated again."""
    evaluated_again = start >= steps and any(name.startswith("eval/") for name in record)
    return record["step"] > start or (record["step"] == start and evaluated_again)
