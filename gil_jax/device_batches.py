"""Training batches on their way to the devices."""

from collections.abc import Generator, Iterator

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


def next_batch(batches: Iterator[Batch]) -> Batch:
    """Take the next batch. Raises ChildProcessError where a process that reads data was ended."""
    try:
        return next(batches)
    except RuntimeError as error:
        if "Worker process" not in str(error):
            raise
        raise ChildProcessError(
            f"a process that reads data (config.data.workers) ended: {str(error).splitlines()[0]} The system may have "
            "ended it for want of memory: give fewer workers, or 0; the same command goes on from the last checkpoint"
        ) from error
