"""Decode pictures, and turn the pictures of a sequence into white bodies on black, or refuse them.

Masks come as 0 and 255, but also as 0 and 1, with a palette, in an alpha channel, in 16 bits, with the noise of JPEG.
The alignment goes by every pixel that is not 0, therefore such pictures are converted before it. What a value means is
decided for a sequence, not for a picture: the first frame of a walk may show a foot only, or nobody.
"""

import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import imagesize
import numpy as np
from jaxtyping import Int, Shaped, UInt8

from data_prep.align import HEIGHTS, is_aligned
from data_prep.limits import DEFAULT_LIMITS, Limits

THRESHOLD = 127  # brighter pixels of a lossy or noisy picture are the body
_FAINT = 64  # a darker pixel is background, an edge, or noise
_SAMPLE = 8  # frames of a sequence that are looked at where looking is slow
_LABELS = 64  # a picture with more values is no map of labels
_JPEG, _SUN = b"\xff\xd8\xff", b"\x59\xa6\x6a\x95"
_JPEG_2000 = (b"\x00\x00\x00\x0cjP", b"\xff\x4f\xff\x51")


class Picture(NamedTuple):
    """A decoded picture.

    grey: uint8 or uint16 [h, w]; alpha: the same, None for a picture without transparency; lossy: of a file format
    that does not keep every pixel.
    """

    grey: Shaped[np.ndarray, "h w"]
    alpha: Shaped[np.ndarray, "h w"] | None = None
    lossy: bool = False


class Silhouettes(NamedTuple):
    """White bodies on black, uint8 [h, w] each, and the conversions that made them: a kind, then ": " and details."""

    frames: list[UInt8[np.ndarray, "_h _w"]]
    conversions: list[str]


def decode_picture(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Picture:
    """Decode a picture file. Raises ValueError for a broken one, LimitError for one of too many pixels."""
    if not data:
        raise ValueError("an empty file")
    limits.check_frame(*_size_in_header(data))
    is_jpeg = data.startswith(_JPEG)
    try:
        flags = cv2.IMREAD_GRAYSCALE if is_jpeg else cv2.IMREAD_UNCHANGED
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"not a picture ({error.err})") from error
    if pixels is None:
        raise ValueError("a broken picture, or none at all")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a picture of {pixels.dtype}, not of 8 or 16 bits")
    lossy = is_jpeg or data.startswith(_JPEG_2000) or _is_lossy_webp(data)
    if pixels.ndim == 2:
        return Picture(pixels, None, lossy)
    if pixels.shape[2] == 3:
        return Picture(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), None, lossy)
    alpha = np.ascontiguousarray(pixels[..., 3])
    opaque = alpha.min(initial=255) == (255 if alpha.dtype == np.uint8 else 65535)
    return Picture(cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY), None if opaque else alpha, lossy)


def _size_in_header(data: bytes) -> tuple[int, int]:
    """Read width and height without decoding; (0, 0) where the header is not understood."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data.startswith(_SUN) and len(data) >= 12:
        return struct.unpack(">II", data[4:12])
    try:
        width, height = imagesize.get(io.BytesIO(data))
    except (ValueError, struct.error, IndexError, KeyError, OSError):
        return 0, 0  # most likely broken: the decoder says so
    return max(int(width), 0), max(int(height), 0)


def _is_lossy_webp(data: bytes) -> bool:
    return data[8:12] == b"WEBP" and b"VP8 " in data[12:]


def make_silhouettes(pictures: Sequence[Picture], keep_soft: bool = False) -> Silhouettes:
    """Turn the pictures of a sequence into white bodies on black; pictures of 0 and 255 keep every byte.

    keep_soft: do not threshold lossy or noisy pictures; nor are frames that are seen to be aligned. Raises
    ValueError that says the values of label maps, faint, inverted and other pictures that are no silhouettes.
    """
    conversions: list[str] = []
    frames, soft = _choose_channel(pictures, conversions)
    if not all(map(_is_clean, frames)):
        lossy = any(picture.lossy for picture in pictures)
        frames, counts = _eight_bits(frames, lossy, conversions)
        values = np.flatnonzero(counts)
        if len(values) == 2 and not lossy:
            return Silhouettes(_from_two_values(frames, values, conversions), conversions)
        _refuse_other_pictures(frames, values, lossy)
        keep_soft = keep_soft or _came_aligned(frames)
        if lossy and not keep_soft:
            frames = [_threshold(frame) for frame in frames]
            conversions.append(f"lossy pictures were thresholded at {THRESHOLD}")
        elif soft:
            frames = [_threshold(frame) for frame in frames]
        elif not keep_soft and any(has_noise(frame) for frame in frames):
            frames = [_threshold(frame) for frame in frames]
            conversions.append(
                f"faint noise was thresholded at {THRESHOLD}: its least value is {values[values > 0][0]}"
            )
    elif is_inverted(frames):
        raise ValueError(_INVERTED)
    if count := _bright_borders(frames):
        conversions.append(f"pictures with a mostly bright border were kept: {count} of {len(frames)}")
    return Silhouettes(frames, conversions)


_INVERTED = "looks inverted, a black body on white: the border is mostly bright; make the body 255 and the rest 0"


def _is_clean(frame: np.ndarray) -> bool:
    """Recognise a picture of 0 and 255."""
    return bool(frame.dtype == np.uint8 and cv2.sumElems(frame)[0] == 255 * cv2.countNonZero(frame))


def _threshold(frame: np.ndarray) -> np.ndarray:
    return cv2.threshold(frame, THRESHOLD, 255, cv2.THRESH_BINARY)[1]


def _came_aligned(frames: list[UInt8[np.ndarray, "_h _w"]]) -> bool:
    """Recognise frames that were aligned before, by their bright pixels: noise reaches every border."""
    if len({frame.shape for frame in frames}) > 1 or len(frames[0]) not in HEIGHTS:
        return False
    return is_aligned(np.stack([_threshold(frame) for frame in frames]), len(frames[0]))


def _choose_channel(pictures: Sequence[Picture], conversions: list[str]) -> tuple[list[np.ndarray], bool]:
    """Take alpha where it varies within a picture, else the grey values; returns them, and whether alpha was taken."""
    if not any(one.alpha is not None and one.alpha.min() != one.alpha.max() for one in pictures):
        return [one.grey for one in pictures], False
    opaque = [one for one in pictures if one.alpha is None]
    if any(one.grey.any() for one in opaque):
        raise ValueError(
            f"{len(opaque)} of {len(pictures)} pictures have no transparent background, the others have: "
            "save all with the alpha channel, or all without"
        )
    conversions.append("the alpha channel was taken for the mask")
    return [one.grey if one.alpha is None else one.alpha for one in pictures], True


def _eight_bits(
    frames: list[np.ndarray], lossy: bool, conversions: list[str]
) -> tuple[list[np.ndarray], Int[np.ndarray, " n"]]:
    """Scale 16 bits to 8, unless two exact values or none above 255 are held; returns also the counts of all values."""
    counts = np.zeros(1 << 16, np.int64)
    for frame in frames:
        found = np.bincount(frame.ravel())
        counts[: len(found)] += found
    values = np.flatnonzero(counts)
    top = int(values[-1]) if len(values) else 0
    if top > 255 and (lossy or len(values) > 2):
        if top <= THRESHOLD * 257:
            raise ValueError(f"too dark: the brightest value is {top:,} of 16 bits, a body is 65,535")
        scale = np.round(np.arange(1 << 16) / 257).astype(np.uint8)
        conversions.append(f"16 bits were scaled to 8: the brightest value is {top:,}")
        # A picture of 8 bits among deeper ones keeps its values.
        scaled = [scale[frame] if frame.dtype == np.uint16 else frame for frame in frames]
        return scaled, np.sum([np.bincount(frame.ravel(), minlength=256) for frame in scaled], 0)
    return [frame.astype(np.uint8) if top <= 255 else frame for frame in frames], counts


def _from_two_values(
    frames: list[np.ndarray], values: Int[np.ndarray, "2"], conversions: list[str]
) -> list[UInt8[np.ndarray, "_h _w"]]:
    """Make the commoner value of the borders 0 and the other 255."""
    low, high = map(int, values)
    edges = np.concatenate([_border(frame) for frame in frames])
    background = high if 2 * np.count_nonzero(edges == high) > len(edges) else low
    if background == high and low == 0:
        raise ValueError(f"{_INVERTED} (values 0 and {high:,})")
    conversions.append(f"two values became 0 and 255: {background:,} and {low + high - background:,}")
    return [(frame != background).astype(np.uint8) * np.uint8(255) for frame in frames]


def _refuse_other_pictures(
    frames: list[UInt8[np.ndarray, "_h _w"]], values: Int[np.ndarray, " n"], lossy: bool
) -> None:
    """Raise ValueError for pictures of more than two values that are no silhouettes."""
    top = int(values[-1]) if len(values) else 0
    if top == 0:
        return
    shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    few = f"; the values {shown} look like labels" if len(values) <= _LABELS else ""
    if top <= THRESHOLD:
        raise ValueError(f"too dark: the brightest value is {top}, a body is 255{few}; make the person 255, the rest 0")
    seen = [frame for frame in frames if frame.max(initial=0) > THRESHOLD]
    dim = [int(frame.max()) for frame in frames if 0 < frame.max(initial=0) <= THRESHOLD and _is_solid(frame)]
    if 10 * len(dim) > len(frames):
        raise ValueError(
            f"too dark: {len(dim)} of {len(frames)} pictures reach {max(dim)} only, the others {top}; a body is 255"
        )
    sample = seen[:: -(-len(seen) // _SAMPLE)]
    borders = np.concatenate([_border(frame) for frame in sample])
    dark, bright = np.mean(borders < _FAINT), np.mean(borders >= 256 - _FAINT)
    if dark < 0.5 and bright < 0.5:
        raise ValueError(f"looks like a photograph: only {dark:.0%} of the border are dark, a silhouette is on black")
    if is_inverted(frames):
        raise ValueError(_INVERTED)
    if len(values) <= _LABELS and not lossy and _has_labels(sample, top):
        raise ValueError(f"looks like a map of labels: it holds areas of {shown}; make the person 255, the rest 0")
    even = sum(np.count_nonzero(frame > 0.7 * top) for frame in sample)
    body = sum(np.count_nonzero(frame >= _FAINT) for frame in sample)
    if even < 0.35 * body:
        raise ValueError(
            f"looks like a photograph: {even / body:.0%} of the body are nearly as bright as its brightest {top}, "
            "a silhouette is even"
        )


def _has_labels(frames: list[UInt8[np.ndarray, "_h _w"]], top: int) -> bool:
    """Recognise even areas of other values than the background's and the brightest; soft edges have none."""
    between = inside = 0
    square = np.ones((3, 3), np.uint8)
    for frame in frames:
        even = cv2.erode(frame, square) == cv2.dilate(frame, square)
        inside += np.count_nonzero(even & (frame > 0))
        between += np.count_nonzero(even & (frame > 0) & (frame < 0.9 * top))
    return bool(between > 0.1 * inside)


def _is_solid(frame: np.ndarray) -> bool:
    """Tell a body from scattered pixels: it covers a square of 5 x 5."""
    return bool(cv2.erode((frame > 0).astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0).any())


def _border(frame: np.ndarray) -> np.ndarray:
    return np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]]) if frame.size else frame.ravel()


def is_inverted(frames: Sequence[UInt8[np.ndarray, "_h _w"]]) -> bool:
    """Recognise black bodies on white: most pictures that are not black have a border of mostly bright pixels."""
    return 2 * _bright_borders(frames) > sum(bool(frame.any()) for frame in frames)


def _bright_borders(frames: Sequence[UInt8[np.ndarray, "_h _w"]]) -> int:
    """Count pictures whose border is mostly bright."""
    borders = map(_border, frames)
    return sum(bool(2 * np.count_nonzero(border > THRESHOLD) > len(border)) for border in borders)


def has_noise(frame: UInt8[np.ndarray, "h w"]) -> bool:
    """Recognise pixels of 1 to 63 that are no soft edge: the brightest of 7 x 7, where an edge would rise to a body."""
    around = cv2.dilate(frame, np.ones((7, 7), np.uint8))
    return bool(np.any((frame > 0) & (frame < _FAINT) & (around == frame)))


def is_ragged(frame: UInt8[np.ndarray, "h w"]) -> bool:
    """Recognise an aligned frame whose outermost rows are faint: noise was taken for a head or feet."""
    rows = frame.max(axis=1)
    rows = rows[rows > 0]
    return len(rows) > 0 and bool(min(rows[0], rows[-1]) < _FAINT)
