"""Several processes that train together: joining them, and an order among them."""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

Made = TypeVar("Made")


def join_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Connect this process to the others of the run; before the first array.

    coordinator: "<host>:<port>" of process 0; all None on a TPU pod, under Slurm or Open MPI, where jax finds them.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, num_processes, process_id)


def first_process_first(make: Callable[[], Made]) -> Made:
    """Run `make` on process 0 first, so that the others find its result on a shared disk."""
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("made by the first process")
    made = make()
    if jax.process_index() == 0:
        multihost_utils.sync_global_devices("made by the first process")
    return made


def print_once(text: str) -> None:
    """Print a line on process 0, above a progress bar."""
    if jax.process_index() == 0:
        tqdm.write(text)
