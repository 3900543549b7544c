"""Masks by background subtraction, for a camera that stands still, or nearly."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from data_prep.video.background import (
    KEPT_SAMPLES,
    SAMPLES,
    Background,
    BackgroundLearner,
    foreground_of,
    light_of,
    relight,
)
from data_prep.video.reader import VideoInfo, frames_of
from data_prep.video.sources import MaskedFrame, Remarks, Tick
from data_prep.video.steady import STILL, Steadier, camera_of, take_back

STRETCH = 15_000  # frames for which one background is learned: ten minutes at 25 frames a second
_CROWDED = 0.4  # of the picture; more foreground is a change of the light, or a covered camera
_JUMP = 0.06  # of the brightness, from a frame to the next: the light flickers
_UPDATE_EVERY, _UPDATE = 5, 0.1  # frames between updates of the background, and the weight of the frame


class FixedCamera:
    """Masks by background subtraction. Of a camera that moves no frame is yielded, and a problem is remarked."""

    passes = 2
    same_ids = False

    def __init__(self, path: Path, info: VideoInfo):
        self.path, self.info = path, info
        self.remarks = Remarks()
        self._longest = max(info.height, info.width)
        self._shifts: list[float] = []
        self._lights: list[float] = []
        self._unusable = 0

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask; the background of a stretch is learned before its frames are yielded."""
        stretches = -(-self.info.frames // STRETCH)
        length = -(-self.info.frames // stretches)
        ahead, behind = frames_of(self.path), frames_of(self.path)
        steadier = Steadier(next(frames_of(self.path)))
        for stretch in range(stretches):
            background, shifts = self._learn(ahead, length, steadier, tick)
            camera = camera_of(shifts, self._longest)
            if background is None or camera == "moving":
                first = stretch * length + 1
                self.remarks.problems.append(
                    f"the camera moves, in frames {first} to {min(first + length - 1, self.info.frames)}: use masks of a "
                    "segmentation network (--model, or --masks)"
                )
                return
            self._shifts += shifts
            yield from self._subtract(behind, length, background, steadier if camera == "shaking" else None, tick)
        self._remark()

    def _learn(
        self, ahead: Iterator[np.ndarray], length: int, steadier: Steadier, tick: Tick
    ) -> tuple[Background | None, list[float]]:
        every = max(length // SAMPLES, 1)
        learner = BackgroundLearner(-(-length // (every * KEPT_SAMPLES)))
        shifts = []
        for index, frame in zip(range(length), ahead, strict=False):
            tick()
            if index % every == 0:
                motion = steadier.motion(frame)
                shifts.append(motion.shift)
                if motion.matrix is not None:
                    learner.add(take_back(frame, motion.matrix) if motion.shift > STILL else frame)
        return learner.background(), shifts

    def _subtract(
        self, behind: Iterator[np.ndarray], length: int, background: Background, steadier: Steadier | None, tick: Tick
    ) -> Iterator[MaskedFrame]:
        colours = background.picture.astype(np.float32)
        for index, frame in zip(range(length), behind, strict=False):
            tick()
            motion = None if steadier is None else steadier.motion(frame)
            matrix = None if motion is None else motion.matrix
            lost = motion is not None and matrix is None
            frame = frame if matrix is None else take_back(frame, matrix)
            light = light_of(frame, background.picture)
            self._lights.append(float(light.mean()))
            relit = relight(frame, light)
            mask, sure = foreground_of(relit, background)
            usable = not lost and cv2.countNonZero(mask) < _CROWDED * mask.size
            self._unusable += not usable
            if usable and index % _UPDATE_EVERY == 0:  # slow light; people are not learned
                free = cv2.bitwise_not(cv2.dilate(mask, np.ones((9, 9), np.uint8)))
                cv2.accumulateWeighted(relit, colours, _UPDATE, mask=free)
                background = background._replace(picture=colours.astype(np.uint8))
            yield MaskedFrame(frame, mask, sure, matrix=matrix, usable=usable)

    def _remark(self) -> None:
        if camera_of(self._shifts, self._longest) == "shaking":
            farthest = max(shift for shift in self._shifts if np.isfinite(shift))
            self.remarks.notes.append(f"the camera shakes, by up to {farthest:.0f} pixels: the frames were steadied")
        changes = np.abs(np.diff(self._lights))
        jumps = int(np.count_nonzero(changes > _JUMP))
        frames = len(self._lights)
        if jumps:
            text = f"the light flickers: it jumps {jumps} times, by up to {changes.max():.0%}"
            (self.remarks.problems if jumps > 0.05 * frames else self.remarks.notes).append(text)
        if self._unusable:
            text = f"{self._unusable} of {frames} frames are left out: most of the picture changes at once"
            (self.remarks.problems if self._unusable > 0.1 * frames else self.remarks.notes).append(text)
