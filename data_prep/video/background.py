"""The background of a fixed camera, learned from samples of the video, and the foreground of a frame against it.

The background of a stretch of video is the commonest colour of every pixel (the dominant Gaussian of Zivkovic, ICPR
2004). A place where somebody stands longer than the background is seen is found by its outline: the person's edges are
in the background then, and no longer in the frames after he has left; it is repaired from those frames.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

SAMPLES = 240  # frames from which the background is learned
KEPT_SAMPLES = 64  # of them, kept to measure the noise and to repair the background
_NOISE_CAP = 16  # a difference larger than this is a person, no noise
_SHADOW_RATIO = (0.5, 0.97)  # brightness of a shadow over that of the background
_SHADOW_COLOUR = 14  # how far a shadow's colour may be from the darkened background, of 255
_STEADY_SPREAD = 20  # of 255, around the usual colour; people who pass are further from it
_GRID = 8  # pixels between those that measure the light


class Background(NamedTuple):
    """A fixed background: its colours, and the differences that count as surely and as possibly not background."""

    picture: UInt8[np.ndarray, "h w 3"]
    possible: UInt8[np.ndarray, "h w"]
    sure: UInt8[np.ndarray, "h w"]


class Foreground(NamedTuple):
    """The foreground of a frame, 0 or 255: a mask, and the pixels of it that differ so much that they are sure."""

    mask: UInt8[np.ndarray, "h w"]
    sure: UInt8[np.ndarray, "h w"]


class BackgroundLearner:
    """Learns a background from at most SAMPLES frames, given one by one."""

    def __init__(self, every: int = 1):
        self._learner = cv2.createBackgroundSubtractorMOG2(history=SAMPLES, varThreshold=16, detectShadows=False)
        self._learner.setBackgroundRatio(0.01)  # the dominant Gaussian alone
        self._seen = 0
        self._every = every  # of the frames given, one of so many is kept
        self._kept: list[np.ndarray] = []

    def add(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Learn from a frame; all frames weigh the same."""
        if self._kept:
            frame = relight(frame, light_of(frame, self._kept[0]))
        if self._seen % self._every == 0 and len(self._kept) < KEPT_SAMPLES:
            self._kept.append(frame)
        self._seen += 1
        self._learner.apply(frame, learningRate=1 / self._seen)

    def background(self) -> Background | None:
        """Return the background that was learned, or None where no frame was added."""
        if not self._seen:
            return None
        picture = np.asarray(self._learner.getBackgroundImage(), np.uint8)
        picture = _repair(picture, self._kept, thresholds(picture, self._kept))
        return thresholds(picture, self._kept)


def thresholds(picture: UInt8[np.ndarray, "h w 3"], samples: list[np.ndarray]) -> Background:
    """Measure the noise of every pixel over the samples, and set the thresholds above it."""
    total = np.zeros(picture.shape[:2], np.float32)
    for sample in samples:
        cv2.accumulate(cv2.min(_largest(cv2.absdiff(sample, picture)), _NOISE_CAP), total)
    noise = cv2.dilate(cv2.blur(total / len(samples), (3, 3)), np.ones((3, 3), np.uint8))
    contrast = _largest(cv2.morphologyEx(picture, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))).astype(np.float32)
    possible = np.clip(3 * noise + 0.2 * contrast + 9, 0, 255).astype(np.uint8)  # things that quiver show at edges
    sure = np.clip(5 * noise + 0.4 * contrast + 22, 0, 255).astype(np.uint8)
    return Background(picture, possible, sure)


def light_of(frame: UInt8[np.ndarray, "h w 3"], reference: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " 3"]:
    """Brightness of a frame over that of a reference, by channel: the median over a grid of pixels."""
    seen = frame[::_GRID, ::_GRID].reshape(-1, 3).astype(np.float32)
    wanted = reference[::_GRID, ::_GRID].reshape(-1, 3).astype(np.float32)
    bright = (wanted.min(axis=1) > 24) & (seen.max(axis=1) < 250)
    if np.count_nonzero(bright) < 32:
        return np.ones(3, np.float32)
    return np.median(seen[bright] / wanted[bright], axis=0).astype(np.float32)


def relight(frame: UInt8[np.ndarray, "h w 3"], light: Float[np.ndarray, " 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Divide a frame by a light that differs from 1 by more than a hundredth."""
    if np.abs(light - 1).max() < 0.01:
        return frame
    table = np.clip(np.arange(256, dtype=np.float32)[:, None] / np.maximum(light, 0.05), 0, 255)
    return np.asarray(cv2.LUT(frame, np.rint(table).astype(np.uint8)[None]), np.uint8)


def foreground_of(frame: UInt8[np.ndarray, "h w 3"], background: Background) -> Foreground:
    """Find what differs from the background and is no shadow of something.

    A shadow is darker by a factor, and of the same colour. Possible pixels stay where they hang together with sure
    ones (hysteresis).
    """
    difference = _largest(cv2.absdiff(frame, background.picture))
    possible = cv2.compare(difference, background.possible, cv2.CMP_GT)
    sure = cv2.compare(difference, background.sure, cv2.CMP_GT)
    bright = cv2.cvtColor(background.picture, cv2.COLOR_BGR2GRAY)
    ratio = cv2.divide(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), bright, dtype=cv2.CV_32F)
    darkened = cv2.multiply(background.picture, cv2.merge([ratio] * 3), dtype=cv2.CV_8U)
    colour = _largest(cv2.absdiff(frame, darkened))
    lit = cv2.bitwise_not(
        cv2.bitwise_and(cv2.inRange(ratio, *_SHADOW_RATIO), cv2.compare(colour, _SHADOW_COLOUR, cv2.CMP_LT))
    )
    possible, sure = cv2.bitwise_and(possible, lit), cv2.bitwise_and(sure, lit)
    mask = cv2.morphologyEx(possible, cv2.MORPH_CLOSE, np.ones((7, 3), np.uint8))  # bodies are cut across, not along
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    return Foreground(np.asarray(mask, np.uint8), np.asarray(sure, np.uint8))


def _largest(channels: np.ndarray) -> np.ndarray:
    blue, green, red = cv2.split(channels)
    return cv2.max(cv2.max(blue, green), red)


def _repair(picture: np.ndarray, samples: list[np.ndarray], background: Background) -> np.ndarray:
    """Replace people who stand in the background by what is seen there once they have left."""
    masks = np.stack([foreground_of(sample, background).mask > 0 for sample in samples])
    candidates = masks.sum(axis=0) > max(3.0, 0.12 * len(samples))
    colours = np.stack([sample[candidates] for sample in samples]).astype(np.float32)
    colours[~masks[:, candidates]] = np.nan
    usual = np.nanmedian(colours, axis=0) if candidates.any() else colours[0]
    alike = np.abs(colours - usual).max(axis=2) < _STEADY_SPREAD
    steady = alike.sum(axis=0) > 0.6 * masks[:, candidates].sum(axis=0)
    often = candidates.astype(np.uint8)
    often[candidates] = steady
    often = np.asarray(cv2.morphologyEx(often, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    regions, labels, stats, _ = cv2.connectedComponentsWithStats(often, connectivity=8)
    repaired = picture.copy()
    for region in range(1, regions):
        left, top, width, height, area = stats[region]
        if area < 1e-4 * often.size:
            continue
        inside = labels == region
        without = [s for s, mask in zip(samples, masks, strict=True) if mask[inside].mean() > 0.6]
        if len(without) < 3:
            continue
        edge = max(height // 8, 4)
        around = np.s_[max(top - edge, 0) : top + height + edge, max(left - edge, 0) : left + width + edge]
        body = inside[around].astype(np.uint8)
        other = np.median([sample[around] for sample in without], axis=0).astype(np.uint8)
        outline = cv2.morphologyEx(cv2.dilate(body, np.ones((3, 3))), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        if _edges(picture[around])[outline].mean() > 1.3 * _edges(other)[outline].mean():
            near = cv2.dilate(body, np.ones((edge, edge), np.uint8))[..., None] > 0
            repaired[around] = np.where(near, other, repaired[around])
    return repaired


def _edges(picture: np.ndarray) -> np.ndarray:
    gray = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_BGR2GRAY)
    return cv2.magnitude(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
