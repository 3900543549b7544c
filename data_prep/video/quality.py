"""The quality of the frames of a track, and the reasons to leave frames or a track out."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from data_prep.video.people import ONE_TORSO, Observation, RawTrack

KEPT_QUALITY = 0.5  # a frame of less is left out
_WINDOW = 1.0  # seconds around a frame that say which height and area are to be expected
_SLOW = 0.12  # heights a second; slower, and with legs that do not move, a person stands
_STILL_LEGS = 0.16  # share of the legs' pixels that change in a fifth of a second
_STAND_WINDOW = 0.6  # seconds over which motion is measured
_PARTING = 0.5  # seconds for which a blob holds two before they part
_SHAPE = (0.15, 0.8)  # width over height of a person, the median of a track


@dataclass(frozen=True)
class Limits:
    """What a track must be to be kept.

    least_frames: good frames; least_height: pixels, the median; least_quality: 0 to 1, of the track.
    """

    least_frames: int = 30
    least_height: int = 40
    least_quality: float = 0.4


class Judged(NamedTuple):
    """A track, judged.

    quality: of every observation, 0 to 1; kept: which observations stay; score: of the track, 0 to 1; reason: the
    first reason to leave the track out, or "".
    """

    track: RawTrack
    quality: Float[np.ndarray, " s"]
    kept: Bool[np.ndarray, " s"]
    score: float
    reason: str


def judge(track: RawTrack, fps: float, size: tuple[int, int], limits: Limits) -> Judged:
    """Measure the quality of a track's frames, and decide which frames stay and whether the track does.

    size: (height, width) of the picture. The quality of a frame is the product of how whole it is (height and area
    against the frames around), how sure its pixels are, whether it is one piece, and whether it looks like one person;
    it is 0 where the border of the picture cuts the person, and just before another person comes out of the blob. The score of a track is the mean quality of its kept frames
    times the square root of their share.
    """
    observations = track.observations
    quality = frame_quality(observations, fps, size)
    frames = np.array([o.frame for o in observations])
    if track.parted_at is not None:
        quality[frames >= track.parted_at - _PARTING * fps] = 0
    good = quality >= KEPT_QUALITY
    standing = stands(observations, fps)
    kept = good & ~standing
    score = float(quality[kept].mean() * np.sqrt(kept.mean())) if kept.any() else 0.0
    return Judged(track, quality, kept, score, _reason(track, good, standing, kept, score, size, limits))


def frame_quality(observations: list[Observation], fps: float, size: tuple[int, int]) -> Float[np.ndarray, " s"]:
    """Measure the quality of every frame of a track, 0 to 1, as said in judge."""
    frames = np.array([o.frame for o in observations])
    heights = np.array([o.box.height for o in observations], float)
    areas = np.array([o.area for o in observations], float) / heights**2
    usual_height, usual_area = (_usual(values, frames, _WINDOW * fps) for values in (heights, areas))
    quality = _ramp(np.abs(np.log(heights / usual_height)), 0.05, 0.3)
    quality *= _ramp(np.abs(np.log(areas / usual_area)), 0.25, 0.8)
    quality *= _ramp(1 - np.array([o.sure for o in observations]), 0.35, 0.8)
    quality *= _ramp(1 - np.array([o.largest for o in observations]), 0.03, 0.25)
    quality *= _ramp(np.array([o.shape.torso for o in observations]), ONE_TORSO + 0.06, ONE_TORSO + 0.24)
    quality *= np.where(np.array([o.shape.heads for o in observations]) > 1, 0.45, 1.0)
    return quality * ~_at_border(observations, size)


def stands(observations: list[Observation], fps: float) -> Bool[np.ndarray, " s"]:
    """Tell in which frames a person stands: the feet go nowhere, the size stays, and the legs do not move."""
    frames = np.array([o.frame for o in observations])
    heights = np.array([o.box.height for o in observations], float)
    across = np.array([o.box.left + o.box.width / 2 for o in observations])
    down = np.array([o.box.bottom for o in observations], float)
    half = max(round(_STAND_WINDOW * fps / 2), 1)
    first = np.searchsorted(frames, frames - half)
    last = np.searchsorted(frames, frames + half, side="right") - 1
    seconds = np.maximum(frames[last] - frames[first], 1) / fps
    middle = (_smooth(across), _smooth(down), _smooth(heights))
    ways = [(values[last] - values[first]) / heights / seconds for values in middle]
    speed = np.sqrt(sum(way**2 for way in ways))
    lag = max(round(fps / 5), 1)
    legs = np.stack([o.shape.legs for o in observations]).astype(float)
    before = np.searchsorted(frames, frames - lag)
    change = np.abs(legs - legs[before]).sum(axis=(1, 2)) / np.maximum(legs.sum(axis=(1, 2)), 1)
    change = _smooth(change, max(round(_STAND_WINDOW * fps), 3))
    return (speed < _SLOW) & (change < _STILL_LEGS)


def _reason(
    track: RawTrack,
    good: np.ndarray,
    standing: np.ndarray,
    kept: np.ndarray,
    score: float,
    size: tuple[int, int],
    limits: Limits,
) -> str:
    observations = track.observations
    height = float(np.median([o.box.height for o in observations]))
    slimness = float(np.median([o.box.width / o.box.height for o in observations]))
    two = float(np.mean([o.shape.heads > 1 or o.shape.torso > ONE_TORSO + 0.1 for o in observations]))
    if track.several:
        return "several people in one"
    if height < limits.least_height:
        return f"too small: {height:.0f} pixels high, of {limits.least_height}"
    if not _SHAPE[0] <= slimness <= _SHAPE[1]:
        return f"not the shape of a person: {slimness:.2f} as wide as high"
    if len(observations) < limits.least_frames:
        return f"too short: {len(observations)} frames, of {limits.least_frames}"
    if two > 0.5:
        return f"looks like two people in {two:.0%} of its frames"
    border = float(np.mean(_at_border(observations, size)))
    if np.count_nonzero(kept) < limits.least_frames:
        if np.mean(standing) > max(border, 0.3):
            return f"stands in {np.mean(standing):.0%} of its frames; {np.count_nonzero(kept)} others are good"
        if border > 0.3:
            return f"cut by the border in {border:.0%} of its frames; {np.count_nonzero(kept)} others are good"
        return f"too few good frames: {np.count_nonzero(kept)} of {len(observations)}"
    if score < limits.least_quality:
        return f"quality {score:.2f}, below {limits.least_quality:.2f}"
    return ""


def _at_border(observations: list[Observation], size: tuple[int, int]) -> np.ndarray:
    boxes = np.array([o.box for o in observations])
    left, top, width, height = boxes.T
    return (left <= 1) | (top <= 1) | (left + width >= size[1] - 1) | (top + height >= size[0] - 1)


def _usual(values: np.ndarray, frames: np.ndarray, half: float) -> np.ndarray:
    """The upper third of the values within `half` frames: what is hidden for a moment lowers it less than a median."""
    first, last = np.searchsorted(frames, frames - half), np.searchsorted(frames, frames + half, side="right")
    return np.array([np.quantile(values[a:b], 0.65) for a, b in zip(first, last, strict=True)])


def _smooth(values: np.ndarray, width: int = 3) -> np.ndarray:
    half = width // 2
    padded = np.pad(values, half, mode="edge")
    return np.array([np.median(padded[i : i + 2 * half + 1]) for i in range(len(values))])


def _ramp(values: np.ndarray, good: float, bad: float) -> np.ndarray:
    """1 up to `good`, 0 from `bad`, straight between."""
    return np.clip((bad - values) / (bad - good), 0, 1)
