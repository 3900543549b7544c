"""Sequences of a training step: P subjects x K sequences, a pure function of (seed, step)."""

import numpy as np
from jaxtyping import Int, Int32

SUBJECTS, FIRST_SLOT = 0, 1  # streams of a step: who is drawn; the frames of slot i of the batch are FIRST_SLOT + i


def stream(seed: int, step: int, number: int) -> np.random.Generator:
    """Return the generator of one stream of random numbers of a step, independent of all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(step, number)))


def draw_sequences(
    rows_of_subject: list[np.ndarray], subjects: int, sequences: int, seed: int, step: int
) -> tuple[Int[np.ndarray, " n"], Int32[np.ndarray, " n"]]:
    """Draw the global batch of a step.

    rows_of_subject: for every class k the rows of its sequences. Returns (rows, labels), [subjects * sequences]
    each: `subjects` classes without replacement, of each `sequences` rows without replacement, and where it has
    fewer, all of them and the rest with replacement.
    """
    rng = stream(seed, step, SUBJECTS)
    labels = rng.choice(len(rows_of_subject), subjects, replace=False)
    drawn = []
    for label in labels:
        rows = rng.permutation(rows_of_subject[label])[:sequences]
        drawn += [rows, rng.choice(rows, sequences - len(rows))]
    return np.concatenate(drawn), np.repeat(labels, sequences).astype(np.int32)
