"""Foreground masks of a video, frame by frame: the form in which every source of masks gives them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int32, UInt8

from data_prep.video.reader import VideoInfo

Tick = Callable[[], None]  # called once a frame that was read


class MaskedFrame(NamedTuple):
    """A frame, steadied, with its foreground.

    mask: 0 or 255; sure: pixels that are sure to be foreground; ids: which instance a pixel is of, 0 for none, where
    the masks tell instances apart; matrix: the motion that was taken back, or None; usable: False where the light
    changed or the camera was covered, so that the mask means nothing.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"]
    sure: UInt8[np.ndarray, "h w"]
    ids: Int32[np.ndarray, "h w"] | None = None
    matrix: Float[np.ndarray, "2 3"] | None = None
    usable: bool = True


@dataclass
class Remarks:
    """Doubts about a video. problems: the tracks are not to be trusted; notes: worth knowing."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class MaskSource(Protocol):
    """Masks of a video, in order.

    remarks: complete once all frames were taken; passes: how often the video is read; same_ids: an id of the masks is
    the same person in all frames.
    """

    info: VideoInfo
    remarks: Remarks
    passes: int
    same_ids: bool

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask; call tick once a frame that was read, `passes` times a frame."""
        ...
