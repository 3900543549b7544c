"""Masks made elsewhere: a video or a folder of pictures, white bodies on black or one colour for every instance."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Int32, UInt8

from data_prep.video.names import PICTURES
from data_prep.video.reader import VideoInfo, frames_of, video_info
from data_prep.video.sources import MaskedFrame, Remarks, Tick

_LOOKED_AT = 100  # frames that say which colours there are
_COMMON = 2e-4  # of those frames; rarer colours are the blur of compression
_DARK = 40  # of 255; darker pixels of a video are background
_CLOSE = 24  # of 255, between a colour and its blur


class GivenMasks:
    """Masks from a video or a folder of pictures.

    Two and more colours (or label values) are instances, the same person in all frames; one alone is foreground, whose
    regions are followed as those of a background subtraction.
    """

    passes = 1
    same_ids = True

    def __init__(self, path: Path):
        self.path = path
        self.remarks = Remarks()
        self._lossless = path.is_dir()
        if self._lossless:
            first = next(_pictures(path))
            self.info = VideoInfo(len(_listed(path)), 25.0, *first.shape[:2])
        else:
            self.info = video_info(path)
        self._colours = self._common_colours()

    def frames(self, tick: Tick) -> Iterator[MaskedFrame]:
        """Yield every frame with its mask."""
        for picture in self._read():
            tick()
            if picture.shape[:2] != (self.info.height, self.info.width):
                raise ValueError(f"{self.path}: masks of several sizes, {picture.shape[:2]} and the first one's")
            ids = self._ids(picture)
            mask = np.where(ids > 0, np.uint8(255), np.uint8(0))
            yield MaskedFrame(picture, mask, mask, ids if len(self._colours) > 1 else None)

    def _read(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return _pictures(self.path) if self._lossless else frames_of(self.path)

    def _common_colours(self) -> UInt8[np.ndarray, "k 3"]:
        every = max(self.info.frames // _LOOKED_AT, 1)
        counts: dict[int, int] = {}
        pixels = 0
        for picture in islice(self._read(), 0, None, every):
            codes, numbers = np.unique(_codes(picture, self._lossless), return_counts=True)
            pixels += picture.shape[0] * picture.shape[1]
            for code, number in zip(codes.tolist(), numbers.tolist(), strict=True):
                counts[code] = counts.get(code, 0) + number
        common = sorted((c for c in counts if c), key=lambda c: -counts[c])
        colours: list[np.ndarray] = []
        for code in common:
            colour = np.array([code >> 16, code >> 8 & 255, code & 255])
            near = any(np.abs(colour - other).max() <= _CLOSE for other in colours) and not self._lossless
            if not near and (self._lossless or counts[code] >= _COMMON * pixels):
                colours.append(colour)
        return np.array(colours, np.uint8).reshape(-1, 3)

    def _ids(self, picture: UInt8[np.ndarray, "h w 3"]) -> Int32[np.ndarray, "h w"]:
        ids = np.zeros(picture.shape[:2], np.int32)
        body = picture.max(axis=2) > (0 if self._lossless else _DARK)
        if len(self._colours) == 1:
            ids[body if self._lossless else picture.max(axis=2) > 127] = 1
        elif len(self._colours):
            far = np.abs(picture[body][:, None].astype(int) - self._colours[None]).sum(axis=2)
            ids[body] = far.argmin(axis=1) + 1
        return ids


def _codes(picture: UInt8[np.ndarray, "h w 3"], lossless: bool) -> np.ndarray:
    """One number for a colour; those of a video are rounded, and its dark pixels are 0."""
    values = picture.astype(np.int32)
    if not lossless:
        values = np.where(values.max(axis=2, keepdims=True) > _DARK, np.minimum((values + 8) // 16 * 16, 255), 0)
    return values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]


def _listed(folder: Path) -> list[Path]:
    paths = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    return sorted(paths, key=lambda path: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", path.name)])


def _pictures(folder: Path) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    for path in _listed(folder):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ValueError(f"{path}: not a picture that OpenCV can read")
        yield np.asarray(picture, np.uint8)
