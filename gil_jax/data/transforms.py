"""From a sequence to the frames that a network sees."""

import numpy as np


def cut_columns(silhouettes: np.ndarray) -> np.ndarray:
    """Cut the empty sides off aligned frames: [..., h, h] -> [..., h, w] with 64x44 or 128x88 (w = 11/16 h)."""
    width = cut_width(silhouettes.shape[-1])
    side = (silhouettes.shape[-1] - width) // 2
    return silhouettes[..., side : side + width]


def cut_width(height: int) -> int:
    """The columns that `cut_columns` leaves: 44 of 64, 88 of 128."""
    return height - 2 * (height * 5 // 32)


def sample_frames(rng: np.random.Generator, length: int, frames: int, order: str, skip: int = 0) -> np.ndarray:
    """Draw the frames of one training sequence: indices int [frames] into a sequence of `length` frames.

    "unordered": without replacement, with replacement where the sequence has too few. "ordered": a random
    window of frames + skip consecutive frames (the sequence repeated if it is shorter), `frames` of them in order.
    """
    if order == "unordered":
        return rng.choice(length, frames, replace=length < frames)
    if order != "ordered":
        raise ValueError(f"config.data.order={order!r}: choose 'ordered' or 'unordered'")
    window = frames + skip
    start = rng.integers(max(length - window, 0) + 1)
    return (start + np.sort(rng.choice(window, frames, replace=False))) % length
