"""Walking silhouettes as small pictures: a strip of the frames of one gait cycle for each sequence."""

import base64

import cv2
import numpy as np
from jaxtyping import Int, UInt8

from gil_jax.data.names import shorten
from gil_jax.data.transforms import cut_columns
from gil_jax.evaluation.embedding import Sequences

FRAMES = 12  # of a strip; people.css plays as many
HEIGHT = 64  # of a frame, at most
BUDGET = 3 << 20  # characters of all strips of a report
CYCLE = (18, 40)  # frames that a gait cycle takes at 25 to 30 frames a second
Labels = tuple[str, str, str]


class Walkers:
    """Strips of sequences, each encoded once, within a budget.

    strips: base64 of PNG files, in the order of their numbers. damaged: messages about sequences that can't be read.
    left_out: number of sequences beyond the budget.
    """

    def __init__(self, budget: int = BUDGET):
        self.strips: list[str] = []
        self.damaged: list[str] = []
        self.left_out = 0
        self._budget = budget
        self._sources: dict[int, tuple[Sequences, dict[Labels, int]]] = {}
        self._numbers: dict[tuple[int, int], int | None] = {}

    def add(self, source: Sequences | None, labels: Labels) -> int | None:
        """Return the number of the strip of a sequence (subject, condition, view).

        None without a source, for labels that it lacks, for a damaged record, and where the budget is used up.
        """
        if source is None:
            return None
        if id(source) not in self._sources:
            table = source.table
            columns = (table.subjects.tolist(), table.conditions.tolist(), table.views.tolist())
            rows = {name: row for row, name in enumerate(zip(*columns, strict=True))}
            self._sources[id(source)] = source, rows
        row = self._sources[id(source)][1].get(labels)
        if row is None:
            return None
        key = id(source), row
        if key not in self._numbers:
            self._numbers[key] = self._encode(source, row)
        return self._numbers[key]

    def describe_missing(self) -> str:
        """Say in a sentence or two which walkers are missing, and the reason; empty where all are there."""
        texts = []
        if self.left_out:
            texts.append(f"{self.left_out:,} walkers are left out to keep this file small.")
        if self.damaged:
            texts.append(f"{len(self.damaged):,} sequences can't be read: {shorten(self.damaged, 2)}.")
        return " ".join(texts)

    def _encode(self, source: Sequences, row: int) -> int | None:
        try:
            strip = base64.b64encode(encode_png(draw_strip(source[row]))).decode()
        except (ValueError, OSError) as error:
            self.damaged.append(str(error))
            return None
        if len(strip) > self._budget:
            self.left_out += 1
            return None
        self._budget -= len(strip)
        self.strips.append(strip)
        return len(self.strips) - 1


def gait_cycle(silhouettes: UInt8[np.ndarray, "s h w"]) -> Int[np.ndarray, " FRAMES"]:
    """Choose the frames of a strip, evenly spaced over about one gait cycle, so that it can be played in a loop.

    The cycle starts in the middle of the sequence and ends before the frame that looks most like its first one. A
    sequence shorter than a cycle is taken as it is.
    """
    count, (shortest, longest) = len(silhouettes), CYCLE
    start, length = max((count - longest) // 2, 0), count
    if count > shortest:
        later = silhouettes[start + shortest : start + longest + 1].astype(np.int16)
        length = shortest + int(np.argmin(np.abs(later - silhouettes[start]).sum(axis=(1, 2))))
    return start + np.arange(FRAMES) * length // FRAMES


def draw_strip(silhouettes: UInt8[np.ndarray, "s h w"]) -> UInt8[np.ndarray, "rows columns"]:
    """Stack the frames of one gait cycle on each other, without the empty sides: 0 and 255, white body on black.

    Frames above 64 pixels are scaled down by averaging. Raises ValueError without frames.
    """
    if not len(silhouettes):
        raise ValueError("a sequence without frames")
    frames = cut_columns(silhouettes[gait_cycle(silhouettes)])
    height, width = frames.shape[1:]
    if height > HEIGHT:
        size = (round(width * HEIGHT / height), HEIGHT)
        frames = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    strip = np.where(frames >= 128, 255, 0).astype(np.uint8)
    return strip.reshape(-1, strip.shape[2])


def encode_png(picture: UInt8[np.ndarray, "rows columns"]) -> bytes:
    """Encode a picture of 0 and 255 as a PNG of one bit a pixel."""
    done, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 6, cv2.IMWRITE_PNG_BILEVEL, 1])
    if not done:
        raise ValueError(f"a picture of {picture.shape} pixels can't be encoded")
    return data.tobytes()
