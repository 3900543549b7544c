"""Frames of a video, one at a time, at a working size."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

LONGEST_SIDE = 1280  # pixels; a silhouette is used at 64 rows, so larger pictures only take time


class VideoInfo(NamedTuple):
    """Number of frames that can be decoded, frames a second, and the working size of a picture in pixels."""

    frames: int
    fps: float
    height: int
    width: int


def video_info(path: Path) -> VideoInfo:
    """Read the properties of a video.

    The frames are counted by walking through the file, since the count in the header of many files is wrong. Raises
    ValueError for a file that OpenCV cannot read.
    """
    video = cv2.VideoCapture(str(path))
    try:
        found, picture = video.read()
        if not found:
            raise ValueError(f"{path}: not a video that OpenCV can read")
        fps = video.get(cv2.CAP_PROP_FPS)
        frames = 1
        while video.grab():
            frames += 1
    finally:
        video.release()
    height, width = _working_size(*picture.shape[:2])
    return VideoInfo(frames, fps if 1 <= fps <= 240 else 25.0, height, width)


def frames_of(path: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield the frames of a video, BGR, the longer side at most 1280 pixels.

    Raises ValueError for a file that OpenCV cannot read.
    """
    video = cv2.VideoCapture(str(path))
    try:
        found, picture = video.read()
        if not found:
            raise ValueError(f"{path}: not a video that OpenCV can read")
        size = _working_size(*picture.shape[:2])
        while found:
            yield picture if picture.shape[:2] == size else resize(picture, *size)
            found, picture = video.read()
    finally:
        video.release()


def resize(picture: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize a picture, without aliasing where it shrinks."""
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _working_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)
