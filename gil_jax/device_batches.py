"""Training batches on their way to the devices."""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor

from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.data.dataset import Dataset
from gil_jax.data.loader import train_batches
from gil_jax.sharding import batch_sharding, local_rows, to_devices
from gil_jax.training import batch_size
from gil_jax.types import Batch


def device_batches(config: ConfigDict, dataset: Dataset, mesh: Mesh, start: int) -> Generator[Batch, None, None]:
    """Read the batches of the steps from `start` on, and put each on the devices of the mesh."""
    rows = batch_size(config)
    batches = train_batches(
        dataset.source,
        dataset.rows_of_subject,
        config.data,
        config.seed,
        start,
        config.train.steps,
        local_rows(mesh, rows),
    )
    layout = batch_sharding(mesh)
    return (to_devices(layout, rows, batch) for batch in batches)


class BatchReader:
    """Reads batches in a thread of its own, so that a signal ends the waiting for one and not the reading itself.

    The first batch is read at once.
    """

    def __init__(self, batches: Generator[Batch, None, None]):
        self._batches = batches
        self._thread = ThreadPoolExecutor(1)
        self._first: Future[Batch] | None = self._thread.submit(_read, batches)

    def next(self) -> Batch:
        """Wait for the next batch. Raises ChildProcessError where a process that reads data was ended."""
        pending, self._first = self._first or self._thread.submit(_read, self._batches), None
        return pending.result()

    def close(self) -> None:
        """Wait for the batch that is read, and end the processes that read."""
        self._thread.shutdown()
        self._batches.close()


def _read(batches: Generator[Batch, None, None]) -> Batch:
    try:
        return next(batches)
    except RuntimeError as error:
        if "Worker process" not in str(error):
            raise
        raise ChildProcessError(
            f"a process that reads data (config.data.workers) ended: {str(error).splitlines()[0]} The system may have "
            "ended it for want of memory: give fewer workers, or 0; the same command goes on from the last checkpoint"
        ) from error
