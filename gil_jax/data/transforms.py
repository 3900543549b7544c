"""From a sequence to the frames that a network sees."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Shaped


def cut_columns(silhouettes: Shaped[np.ndarray, "*n h columns"]) -> Shaped[np.ndarray, "*n h w"]:
    """Crop the empty sides of aligned frames: [..., h, h] -> [..., h, w] with 64x44 or 128x88 (w = 11/16 h)."""
    width = cut_width(silhouettes.shape[-1])
    side = (silhouettes.shape[-1] - width) // 2
    return silhouettes[..., side : side + width]


def cut_width(height: int) -> int:
    """Columns that `cut_columns` keeps: 44 of 64, 88 of 128."""
    return height - 2 * (height * 5 // 32)


def frames_range(frames: int | Sequence[int]) -> tuple[int, int]:
    """Read `config.data.frames`, a number or a pair: the least and the most frames of a training sequence.

    Raises ValueError unless they are positive and ordered.
    """
    pair = (frames, frames) if isinstance(frames, int) else tuple(frames)
    if len(pair) != 2 or not 1 <= pair[0] <= pair[1]:
        raise ValueError(f"config.data.frames={frames}: give a number of 1 or more, or a pair (least, most)")
    return pair


def sample_frames(
    rng: np.random.Generator, length: int, frames: int | Sequence[int], order: str, skip: int = 0
) -> Int[np.ndarray, " s"]:
    """Draw the frames of one training sequence: indices into a sequence of `length` frames.

    frames: how many, or a pair (least, most) between which the number is drawn evenly for every sequence.
    "unordered": without replacement, with replacement where the sequence has too few. "ordered": a random window of
    frames + skip consecutive frames (the sequence repeated if it is shorter), `frames` of them in order.
    """
    least, most = frames_range(frames)
    number = least if least == most else int(rng.integers(least, most + 1))
    if order == "unordered":
        return rng.choice(length, number, replace=length < number)
    if order != "ordered":
        raise ValueError(f"config.data.order={order!r}: choose 'ordered' or 'unordered'")
    window = number + skip
    start = rng.integers(max(length - window, 0) + 1)
    return (start + np.sort(rng.choice(window, number, replace=False))) % length
