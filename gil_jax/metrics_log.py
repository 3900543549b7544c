"""Metrics of a run: metrics.jsonl, TensorBoard event files and a progress bar."""

import json
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from gil_jax.data.files import write_atomically

FLUSH_SECONDS = 30  # between flushes of the event file


class MetricsLog:
    """A log of numbers by step. Lines of steps that a resumed run will repeat are dropped, so that none stands twice.

    workdir: its metrics.jsonl gets one JSON object a line, with "step"; its tensorboard/ the same numbers.
    start: the step that the run goes on from; steps: where it ends; sequences: of a step; writes: False on all
    processes but one; on_full_disk: "stop" raises OSError where a line can't be written, "continue" goes on without.
    wandb: `config.train.wandb`, whose run gets the same numbers.
    """

    def __init__(
        self,
        workdir: str,
        start: int,
        steps: int,
        writes: bool = True,
        sequences: int = 1,
        on_full_disk: str = "stop",
        wandb: ConfigDict | None = None,
    ):
        self.writes, self.sequences, self.on_full_disk = writes, sequences, on_full_disk
        self._start, self._last_step, self._cut = start, start, False
        self.start_timing()
        if not writes:
            return
        folder = Path(workdir)
        path = folder / "metrics.jsonl"
        records, damaged = _read(path)
        kept = [line for line, record in records if not _is_again(record, start, steps)]
        if damaged:
            with (folder / "metrics.damaged").open("ab") as file:
                file.writelines(damaged)
            tqdm.write(f"{path}: {len(damaged)} lines can't be read; they are in metrics.damaged now")
        write_atomically(path, "".join(kept))
        self.lines = path.open("a", encoding="utf-8")
        self._writer = None
        if wandb is not None and wandb.project:
            from gil_jax.wandb_writer import WandbWriter

            self._writer = WandbWriter(wandb, workdir)
        self._board_folder, self._board = folder / "tensorboard", None
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
        try:
            # After a line that was cut off by a full disk a new one begins.
            self.lines.write("\n" * self._cut + json.dumps({"step": step, **record}) + "\n")
            self.lines.flush()
            with self.not_timed():
                self._open_board().write(step, values)
            self._cut = False
        except OSError as error:
            if self.on_full_disk == "stop":
                raise OSError(
                    f"the metrics of step {step} can't be written: {error}. Free the disk and give the same command "
                    "again; config.train.on_full_disk='continue' goes on without them"
                ) from error
            if not self._cut:
                tqdm.write(f"The metrics of step {step} can't be written, the training goes on: {error}")
            self._cut = True
        if self._writer:
            with self.not_timed():
                self._writer.write(step, values)
        if shown:
            self.bar.set_postfix({name: f"{values[name]:.4g}" for name in shown if name in values})

    def write_image(self, step: int, tag: str, png: bytes, shape: tuple[int, ...]) -> None:
        """Add a picture to the event file. shape: (height, width) of a grey one, (height, width, 3) in colour.

        Raises OSError where the disk does not take it.
        """
        if self.writes:
            self._open_board().write_image(step, tag, png, shape)

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
        """Steps and sequences per second since the last call, and the share of that time spent waiting for input.

        Without compilation, evaluations and saves.
        """
        passed = max(time.perf_counter() - self._mark - self._excluded, 1e-9)
        rate = (step - self._last_step) / passed
        self._last_step = step
        rates = {
            "steps_per_second": rate,
            "sequences_per_second": rate * self.sequences,
            "input_wait_share": self._waited / passed,
        }
        self.start_timing()
        return rates

    def end_progress(self) -> None:
        """Stop the progress bar where it is: the training is over."""
        if self.writes:
            self.bar.close()

    def _open_board(self) -> "_Board":
        if self._board is None:
            self._board = _Board(self._board_folder, self._start)
        return self._board

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if not self.writes:
            return
        self.bar.close()
        if self._writer:
            self._writer.close()
        for file in (self._board, self.lines):
            with suppress(OSError):  # a full disk, which was reported at its line
                if file is not None:
                    file.close()


class _Board:
    """An event file of TensorBoard. Made with the first numbers: tensorboardX imports torch, where it is installed."""

    def __init__(self, folder: Path, start: int):
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import RecordWriter
        from tensorboardX.summary import scalar

        self._make, self._scalar = Event, scalar
        folder.mkdir(exist_ok=True)
        # Synchronous: the threads of writers die on a full disk, and whoever waits for them hangs.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = RecordWriter(str(folder / name))
        self._event(file_version="brain.Event:2")
        # Events of steps that will come again are hidden.
        self._event(step=start + 1, session_log={"status": "START"})
        self._flushed = time.monotonic()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Write the numbers of a step."""
        for name, value in values.items():
            self._event(step=step, summary=self._scalar(name, value))
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def write_image(self, step: int, tag: str, png: bytes, shape: tuple[int, ...]) -> None:
        """Write a picture of a step."""
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        colorspace = 3 if len(shape) == 3 else 1
        image = Summary.Image(height=shape[0], width=shape[1], colorspace=colorspace, encoded_image_string=png)
        self._event(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))
        self._file.flush()

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._file.close()

    def _event(self, **content: Any) -> None:
        self._file.write(self._make(wall_time=time.time(), **content).SerializeToString())


def _read(path: Path) -> tuple[list[tuple[str, dict]], list[bytes]]:
    """Read a log: its lines with their records, and the lines that can't be read.

    Half a line at the end, which a killed run leaves behind, is in neither. Raises ValueError where it is no file.
    """
    if not path.exists():
        return [], []
    if not path.is_file():
        raise ValueError(f"{path} is not a file: move it away")
    records, damaged = [], []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
            int(record["step"])
            records.append((line.decode().rstrip("\r\n") + "\n", record))
        except (ValueError, TypeError, KeyError, RecursionError):
            if line.endswith(b"\n") and line.strip():
                damaged.append(line)
    return records, damaged


def _is_again(record: dict, start: int, steps: int) -> bool:
    """Whether a run resumed at `start` will log this record again. The last step is always evaluated again."""
    evaluated_again = start >= steps and any(name.startswith("eval/") for name in record)
    return record["step"] > start or (record["step"] == start and evaluated_again)
