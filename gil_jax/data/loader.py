"""Batches for training and evaluation, decoded by Grain ahead of their use."""

import os
from collections.abc import Iterator
from functools import partial

import grain
import numpy as np

from gil_jax.data.sampler import draw_sequences
from gil_jax.data.transforms import cut_columns, cut_width, sample_frames
from gil_jax.processes import end_with_parent
from gil_jax.types import Batch


def train_batches(
    source, rows_of_subject: list[np.ndarray], config, seed: int, start: int, stop: int, slots: np.ndarray
) -> Iterator[Batch]:
    """The batches of the steps start .. stop - 1, each a pure function of (seed, step, slot).

    source[i] -> uint8 [s, h, h]; rows_of_subject: for every class its rows of the source; config: `config.data`;
    slots: int [m], the rows of the global batch (subjects * sequences of them) that this process loads; labels are
    of the global batch. The number of workers and processes changes nothing but the speed.
    """
    make = partial(_train_batch, source, rows_of_subject, dict(config), seed, slots)
    return _prefetched(make, range(start, stop), config["workers"])


def _train_batch(source, rows_of_subject, config, seed, slots, step) -> Batch:
    rows, labels = draw_sequences(
        rows_of_subject, config["subjects_per_batch"], config["sequences_per_subject"], seed, step
    )
    height = source.height
    silhouettes = np.empty((len(slots), config["frames"], height, cut_width(height)), np.uint8)
    for place, slot in enumerate(slots.tolist()):
        sequence = source[int(rows[slot])]
        rng = np.random.default_rng([seed, step, slot])
        picked = sample_frames(rng, len(sequence), config["frames"], config["order"], config["skip"])
        silhouettes[place] = cut_columns(sequence[picked])
    return Batch(silhouettes, np.ones(silhouettes.shape[:2], bool), labels)


def plan_eval_batches(lengths: np.ndarray, frames_per_batch: int, divisor: int, buckets: int) -> list:
    """Pack sequences of any length into a few shapes: a list of (rows int [<= n], n, padded length).

    lengths: int [sequences]. Sequences are sorted by length and padded to one of at most `buckets` lengths, the
    quantiles of the lengths, so that a network is compiled that often. n is a multiple of `divisor`
    (the devices that share a batch), about frames_per_batch / length; a batch may have fewer rows than n.
    """
    if len(lengths) == 0:
        return []
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, buckets + 1)[1:], method="higher"))
    bucket = np.searchsorted(edges, lengths)
    plan = []
    for index, edge in enumerate(edges):
        rows = np.flatnonzero(bucket == index)
        most = -(-len(rows) // divisor) * divisor
        n = min(max(frames_per_batch // int(edge) // divisor, 1) * divisor, most)
        plan += [(rows[i : i + n], n, int(edge)) for i in range(0, len(rows), n)]
    return plan


def eval_batches(source, plan: list, slots_of) -> Iterator[Batch]:
    """The batches of a plan (rows into the source); slots_of(n) -> int [m]: the rows that this process loads.

    Rows that only fill a batch up hold one empty frame and the label -1; the others hold their row of the source.
    """
    make = partial(_eval_batch, source, plan, {n: slots_of(n) for _, n, _ in plan})
    return _prefetched(make, range(len(plan)), workers=0)


def _eval_batch(source, plan, slots, index) -> Batch:
    rows, n, length = plan[index]
    mine = slots[n].tolist()
    height = source.height
    silhouettes = np.zeros((len(mine), length, height, height), np.uint8)
    frame_mask = np.zeros((len(mine), length), bool)
    frame_mask[:, 0] = True
    labels = np.full(len(mine), -1, np.int32)
    for place, slot in enumerate(mine):
        if slot < len(rows):
            sequence = source[int(rows[slot])]
            silhouettes[place, : len(sequence)] = sequence
            frame_mask[place, : len(sequence)] = True
            labels[place] = rows[slot]
    return Batch(np.ascontiguousarray(cut_columns(silhouettes)), frame_mask, labels)


def _prefetched(make, numbers: range, workers: int) -> Iterator[Batch]:
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
