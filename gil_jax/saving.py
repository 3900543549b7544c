"""Saving the checkpoints of a training, also when the disk is full."""

import errno
from types import TracebackType
from typing import Any

import jax

from gil_jax.checkpoint import open_checkpoints, record_scores, save, steps_of
from gil_jax.distributed import print_once
from gil_jax.train_state import TrainState


class Saver:
    """The checkpoints that a training writes, in the background.

    keep, metric: see `open_checkpoints`. on_full_disk: "stop" raises OSError where a checkpoint does not fit on the
    disk, "continue" says so and goes on with the last one kept. run: what every checkpoint says of the run.
    """

    def __init__(self, workdir: str, keep: int, metric: str, on_full_disk: str, run: dict[str, Any]):
        self.workdir, self.keep, self.metric, self.on_full_disk, self.run = workdir, keep, metric, on_full_disk, run
        self.manager = open_checkpoints(workdir, keep, metric)
        self._step: int | None = None

    def save(self, state: TrainState) -> None:
        """Begin to write a checkpoint of state.step; the one before it is finished first."""
        self.finish()
        self._step = int(state.step)
        try:
            save(self.manager, state, self.run)
        except Exception as error:  # orbax and tensorstore have kinds of their own
            self._fail(error)

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        try:
            self.manager.wait_until_finished()
        except Exception as error:
            self._fail(error)

    def record(self, step: int, metrics: dict[str, float]) -> None:
        """Remember the metrics of an evaluation, by which the best checkpoint is kept."""
        if jax.process_index() > 0:
            return
        try:
            record_scores(self.workdir, step, metrics)
        except OSError as error:
            print_once(f"The evaluation of step {step} does not count for the best checkpoint: {error}")

    def reached_preemption(self, step: int) -> bool:
        """Whether all processes of the run are to stop after this step, by jax's notice."""
        return self.manager.reached_preemption(step)

    def _fail(self, error: Exception) -> None:
        if not _is_full(error):
            raise error
        self.manager = open_checkpoints(self.workdir, self.keep, self.metric)  # without what it began to write
        kept = steps_of(self.workdir)
        text = (
            f"the disk is full: the checkpoint of step {self._step} was not written; "
            + (f"step {kept[-1]} is kept" if kept else "there is no other yet")
            + f" ({_first_line(error)})"
        )
        if self.on_full_disk == "stop" or jax.process_count() > 1:
            raise OSError(
                errno.ENOSPC, f"{text}. Free the disk and give the same command again", self.workdir
            ) from error
        print_once(f"{text[0].upper()}{text[1:]}. The training goes on")

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.finish()
        elif jax.process_count() > 1:
            return  # closing would wait for the other processes, which may be lost
        self.manager.close()


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is of a full disk or quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(text in str(error) for text in ("No space left on device", "Disk quota exceeded", "os_error=ENOSPC")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
