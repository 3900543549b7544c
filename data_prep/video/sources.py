"""Foreground masks of a video, frame by frame: by the background of a fixed camera, or made elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

from data_prep.video.background import (
    SAMPLES,
    BackgroundLearner,
    KEPT_SAMPLES,
    foreground_of,
    light_of,
    relight,
)
from data_prep.video.reader import VideoInfo, frames_of
from data_prep.video.steady import Steadier, camera_of, take_back

STRETCH = 15_000  # frames for which one background is learned: ten minutes at 25 frames a second
_CROWDED = 0.4  # of the picture; more foreground is a change of the light, or a covered camera
_JUMP = 0.06  # of the brightness, from a frame to the next: the light flickers
_UPDATE_EVERY, _UPDATE = 5, 0.1  # frames between updates of the background, and the weight of the frame

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
    """Masks of a video, in order. remarks is complete once all frames were taken; passes: how often it is read."""

    info: VideoInfo
    remarks: Remarks
    passes: int

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask; call tick once a frame that was read, `passes` times a frame."""
        ...


class FixedCamera:
    """Masks by background subtraction. Of a camera that moves no frame is yielded, and a problem is remarked."""

    passes = 2

    def __init__(self, path: Path, info: VideoInfo):
        self.path, self.info = path, info
        self.remarks = Remarks()

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask; the background of a stretch is learned before its frames are yielded."""
        stretches = -(-self.info.frames // STRETCH)
        length = -(-self.info.frames // stretches)
        ahead = frames_of(self.path)
        behind = frames_of(self.path)
        steadier = Steadier(next(frames_of(self.path)))
        shifts, lights, unusable, seen = [], [], 0, 0
        for _ in range(stretches):
            learner, stretch_shifts = self._learn(ahead, length, steadier, tick)
            shifts += stretch_shifts
            camera = camera_of(stretch_shifts, max(self.info.height, self.info.width))
            if camera == "moving":
                self.remarks.problems.append(
                    f"the camera moves (by more than 8 % of the picture, frames {seen + 1} to {seen + length}): "
                    "give masks of a segmentation network, or --model"
                )
                return
            background = learner.background()
            colours = background.picture.astype(np.float32)
            for _ in range(length):
                frame = next(behind, None)
                if frame is None:
                    break
                tick()
                seen += 1
                matrix = None
                if camera == "shaking":
                    motion = steadier.motion(frame)
                    matrix = motion.matrix
                    frame = frame if matrix is None else take_back(frame, matrix)
                light = light_of(frame, background.picture)
                lights.append(float(light.mean()))
                foreground = foreground_of(relight(frame, light), background)
                lost = camera == "shaking" and matrix is None
                usable = not lost and cv2.countNonZero(foreground.mask) < _CROWDED * foreground.mask.size
                unusable += not usable
                if usable and seen % _UPDATE_EVERY == 0:
                    free = cv2.bitwise_not(cv2.dilate(foreground.mask, np.ones((9, 9), np.uint8)))
                    cv2.accumulateWeighted(relight(frame, light), colours, _UPDATE, mask=free)
                    background = background._replace(picture=colours.astype(np.uint8))
                yield MaskedFrame(frame, foreground.mask, foreground.sure, matrix=matrix, usable=usable)
        self._remark(shifts, np.array(lights), unusable)

    def _learn(
        self, ahead: Iterator[np.ndarray], length: int, steadier: Steadier, tick: Tick
    ) -> tuple[BackgroundLearner, list[float]]:
        every = max(length // SAMPLES, 1)
        learner = BackgroundLearner(max(min(length, SAMPLES) // KEPT_SAMPLES, 1))
        shifts = []
        for index in range(length):
            frame = next(ahead, None)
            if frame is None:
                break
            tick()
            if index % every == 0:
                motion = steadier.motion(frame)
                shifts.append(motion.shift)
                if motion.matrix is not None:
                    learner.add(take_back(frame, motion.matrix) if motion.shift > 0.4 else frame)
        return learner, shifts

    def _remark(self, shifts: list[float], lights: np.ndarray, unusable: int) -> None:
        camera = camera_of(shifts, max(self.info.height, self.info.width))
        if camera == "shaking":
            self.remarks.notes.append(f"the camera shakes, by up to {max(s for s in shifts if s < np.inf):.0f} pixels: steadied")
        jumps = int(np.count_nonzero(np.abs(np.diff(lights)) > _JUMP))
        if jumps:
            text = f"the light jumps {jumps} times, by up to {np.abs(np.diff(lights)).max():.0%}"
            (self.remarks.problems if jumps > 0.05 * len(lights) else self.remarks.notes).append(text)
        if unusable:
            text = f"{unusable} of {len(lights)} frames are left out: more than {_CROWDED:.0%} of the picture changes at once"
            (self.remarks.problems if unusable > 0.1 * len(lights) else self.remarks.notes).append(text)


class GivenMasks:
    """Masks made elsewhere: a video of white bodies on black, or of one colour for every instance on black."""

    passes = 1

    def __init__(self, path: Path, info: VideoInfo):
        self.path, self.info = path, info
        self.remarks = Remarks()

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask."""
        raise NotImplementedError
