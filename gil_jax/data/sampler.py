"""Which sequences a training step sees: P subjects x K sequences, a pure function of (seed, step)."""

import numpy as np


def draw_sequences(
    rows_of_subject: list[np.ndarray], subjects: int, sequences: int, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the global batch of a step.

    rows_of_subject: for every class k the rows of its sequences. Returns (rows, labels), int [subjects * sequences]
    each: `subjects` classes without replacement, of each `sequences` rows without replacement, and where it has
    fewer, all of them and the rest with replacement.
    """
    rng = np.random.default_rng([seed, step])
    labels = rng.choice(len(rows_of_subject), subjects, replace=False)
    drawn = []
    for label in labels:
        rows = rng.permutation(rows_of_subject[label])[:sequences]
        drawn += [rows, rng.choice(rows, sequences - len(rows))]
    return np.concatenate(drawn), np.repeat(labels, sequences).astype(np.int32)
