"""Batches for training and evaluation, decoded by Grain ahead of their use."""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from gil_jax.data.sampler import FIRST_SLOT, draw_sequences, stream
from gil_jax.data.transforms import cut_columns, cut_width, frames_range, sample_frames
from gil_jax.processes import end_with_parent
from gil_jax.types import Batch

SHARED_MEMORY = "/dev/shm"  # where Grain's workers put their batches
BATCHES_OF_WORKER = 3  # two that wait and one that is written
MOST_LENGTHS = 500  # that are tried as ends of buckets


@runtime_checkable
class Source(Protocol):
    """Sequences by number, all of one height: source[i] -> uint8 [s, h, h]."""

    height: int

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]: ...


class PlannedBatch(NamedTuple):
    """A batch of evaluation: rows of the sequences, the rows of the padded batch, and the frames of each."""

    rows: np.ndarray
    n: int
    length: int


def train_batches(
    source: Source,
    rows_of_subject: list[np.ndarray],
    config: Mapping[str, Any] | ConfigDict,
    seed: int,
    start: int,
    stop: int,
    slots: Int[np.ndarray, " m"],
) -> Iterator[Batch]:
    """Return the batches of the steps start .. stop - 1, each a pure function of (seed, step, slot).

    rows_of_subject: for every class its rows of the source; config: `config.data`; slots: the rows of the global
    batch (subjects * sequences of them) that this process loads; labels are of the global batch. The number of
    workers and processes changes nothing but the speed. Raises ValueError if the workers' batches do not fit the
    shared memory.
    """
    check_shared_memory(config["workers"], batch_bytes(len(slots), config["frames"], source.height))
    make = partial(_train_batch, source, rows_of_subject, dict(config), seed, slots)
    return _prefetched(make, range(start, stop), config["workers"])


def batch_bytes(sequences: int, frames: Any, height: int) -> int:
    """Bytes of a padded training batch: a pixel is one, and so is a frame of the mask."""
    return sequences * frames_range(frames)[1] * (height * cut_width(height) + 1)


def check_shared_memory(workers: int, size: int, folder: str = SHARED_MEMORY) -> None:
    """Raise ValueError unless the batches, of `size` bytes, of all workers fit the shared memory of the machine."""
    if not workers or not Path(folder).is_dir():  # macOS has no such folder and no such limit
        return
    disk = os.statvfs(folder)
    needed, free = workers * BATCHES_OF_WORKER * size, disk.f_bavail * disk.f_frsize
    if needed > free:
        raise ValueError(
            f"config.data.workers={workers} needs {_megabytes(needed)} MB of {folder} for batches of "
            f"{_megabytes(size)} MB, and {_megabytes(free)} MB are free: give the container more "
            "(docker run --shm-size=1g), or fewer workers; config.data.workers=0 needs none"
        )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"


def _train_batch(
    source: Source, rows_of_subject: list[np.ndarray], config: dict, seed: int, slots: np.ndarray, step: int
) -> Batch:
    rows, labels = draw_sequences(
        rows_of_subject, config["subjects_per_batch"], config["sequences_per_subject"], seed, step
    )
    height, most = source.height, frames_range(config["frames"])[1]
    silhouettes = np.zeros((len(slots), most, height, cut_width(height)), np.uint8)
    frame_mask = np.zeros((len(slots), most), bool)
    for place, slot in enumerate(slots.tolist()):
        sequence = source[int(rows[slot])]
        rng = stream(seed, step, FIRST_SLOT + slot)
        picked = sample_frames(rng, len(sequence), config["frames"], config["order"], config["skip"])
        silhouettes[place, : len(picked)] = cut_columns(sequence[picked])
        frame_mask[place, : len(picked)] = True
    return Batch(silhouettes, frame_mask, labels)


def plan_eval_batches(
    lengths: Int[np.ndarray, " n"], frames_per_batch: int, divisor: int, buckets: int
) -> list[PlannedBatch]:
    """Pack sequences of any length into a few shapes.

    Sequences are padded to the longest of their bucket. The buckets, at most `buckets`, are those that pad least in
    all, so a few long sequences are among themselves. A batch has n rows, a multiple of `divisor` (the devices that
    share it) that may exceed its sequences, and at most frames_per_batch padded frames, or one sequence a device
    where that is more. Sequences longer than frames_per_batch, and the only one of a bucket, are alone (n = 1).
    Raises ValueError if a limit is less than 1.
    """
    if min(frames_per_batch, buckets) < 1:
        raise ValueError(
            f"config.eval.frames_per_batch={frames_per_batch}, config.eval.length_buckets={buckets}: give 1 or more"
        )
    plan = []
    shortest = 0
    for longest in _bucket_ends(lengths, buckets):
        rows = np.flatnonzero((lengths > shortest) & (lengths <= longest))
        shortest = longest
        if longest > frames_per_batch or len(rows) == 1:
            n = 1
        else:
            most = max(frames_per_batch // longest // divisor, 1) * divisor
            evenly = -(-len(rows) // -(-len(rows) // most))  # rows of a batch if all are filled alike
            n = -(-evenly // divisor) * divisor
        plan += [PlannedBatch(rows[i : i + n], n, longest) for i in range(0, len(rows), n)]
    return plan


def _bucket_ends(lengths: np.ndarray, buckets: int) -> list[int]:
    """Choose the ends of at most `buckets` buckets so that the padded frames of all sequences are fewest.

    By dynamic programming over the lengths that occur, thinned to MOST_LENGTHS.
    """
    if len(lengths) == 0:
        return []
    ends = np.unique(lengths)
    ends = ends[np.unique(np.linspace(0, len(ends) - 1, MOST_LENGTHS).astype(int))]
    within = np.concatenate([[0], np.searchsorted(np.sort(lengths), ends, side="right")])  # sequences up to each end
    padded = ends[:, None] * (within[1:, None] - within)  # [end, start]: a bucket from one to the other
    padded = np.where(np.arange(len(ends))[:, None] >= np.arange(len(ends) + 1), padded, np.iinfo(np.int64).max // 2)
    cost = np.where(np.arange(len(ends) + 1) == 0, 0, np.iinfo(np.int64).max // 2)
    starts = []
    for _ in range(min(buckets, len(ends))):
        total = padded + cost
        starts.append(total.argmin(axis=1))
        cost = np.concatenate([[0], total.min(axis=1)])
    chosen, at = [], len(ends)
    for start in reversed(starts):
        if at == 0:
            break
        chosen.append(int(ends[at - 1]))
        at = int(start[at - 1])
    return chosen[::-1]


def eval_batches(
    source: Source, plan: list[PlannedBatch], slots_of: Callable[[int], Int[np.ndarray, " m"]]
) -> Iterator[Batch]:
    """Return the batches of a plan (rows into the source); slots_of(n): the rows of n that this process loads.

    Rows that only fill a batch up hold one empty frame and the label -1; the others hold their row of the source. A
    sequence that is longer than planned is cut to its first frames.
    """
    make = partial(_eval_batch, source, plan, {n: slots_of(n) for _, n, _ in plan})
    return _prefetched(make, range(len(plan)), workers=0)


def _eval_batch(source: Source, plan: list[PlannedBatch], slots: dict[int, np.ndarray], index: int) -> Batch:
    rows, n, length = plan[index]
    mine = slots[n].tolist()
    height = source.height
    silhouettes = np.zeros((len(mine), length, height, cut_width(height)), np.uint8)
    frame_mask = np.zeros((len(mine), length), bool)
    frame_mask[:, 0] = True
    labels = np.full(len(mine), -1, np.int32)
    for place, slot in enumerate(mine):
        if slot < len(rows):
            sequence = source[int(rows[slot])][:length]
            silhouettes[place, : len(sequence)] = cut_columns(sequence)
            frame_mask[place, : len(sequence)] = True
            labels[place] = rows[slot]
    return Batch(silhouettes, frame_mask, labels)


def _prefetched(make: Callable[[int], Batch], numbers: range, workers: int) -> Iterator[Batch]:
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    batches = grain.MapDataset.range(numbers.start, numbers.stop).map(make).to_iter_dataset(options)
    if workers:
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        batches = batches.mp_prefetch(options, worker_init_fn=partial(_start_worker, os.getpid()))
    iterator = iter(batches)
    try:
        # A copy, so that no array of a device keeps a worker's shared memory alive.
        yield from (Batch(*map(np.array, batch)) for batch in iterator) if workers else iterator
    finally:
        iterator.close()  # ends the processes and gives their shared memory back


def _start_worker(parent: int, index: int, count: int) -> None:
    del index, count
    end_with_parent(parent)
