"""The alignment of a raw frame: the person scaled to the height of the picture and moved to its middle."""

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from data_prep.limits import DEFAULT_LIMITS, Limits

ALIGNMENT = "1"  # changes with every change of a pixel; part of a built data set's fingerprint
HEIGHTS = (64, 128)  # of aligned frames
LEAST_SUM = 10_000  # a frame whose pixels add up to no more holds no person


def align_silhouette(
    frame: Shaped[np.ndarray, "..."], height: int, area: bool = False, limits: Limits = DEFAULT_LIMITS
) -> UInt8[np.ndarray, "height height"] | None:
    """Scale and centre a raw frame: uint8 [h, w], white body on black -> uint8 [height, height], or None.

    None where nobody is seen: the pixels add up to 10,000 or less. The rows that are not empty fill the height,
    bicubic, the aspect kept; the middle is the column where the running sum of the columns passes half of the total.
    The pixels are those of the GaitSet preparation (Chao et al., AAAI 2019). area: scale by area and take any frame
    that is not empty, as CCPG's preparation does (Li et al., CVPR 2023). Raises ValueError for another array,
    LimitError for a body so low and wide that it would be scaled to too many pixels.
    """
    if frame.ndim != 2 or frame.dtype != np.uint8:
        raise ValueError(f"a frame is uint8 [h, w], not {frame.dtype} {list(frame.shape)}")
    if frame.size == 0 or cv2.sumElems(frame)[0] <= (0 if area else LEAST_SUM):
        return None
    _, top, _, rows = cv2.boundingRect(frame)
    width = int(height * (frame.shape[1] / rows))
    if width == 0:
        return None
    limits.check_frame(width, height, "scaled to the height of the records a frame has")
    body = cv2.resize(
        frame[top : top + rows], (width, height), interpolation=cv2.INTER_AREA if area else cv2.INTER_CUBIC
    )
    columns = cv2.reduce(body, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0].cumsum()
    if columns[-1] == 0:
        return None
    left = int(np.argmax(columns > columns[-1] / 2)) - height // 2
    aligned = np.zeros((height, height), np.uint8)
    first, last = max(left, 0), min(left + height, width)
    aligned[:, first - left : last - left] = body[:, first:last]
    return aligned


def is_aligned(frames: UInt8[np.ndarray, "s h w"], height: int) -> bool:
    """Recognise silhouettes that were aligned to this height before, with or without their sides cropped.

    True for [s, height, height] and [s, height, 11/16 height] (64x64, 64x44) where most bodies reach from the top to
    the bottom, give or take two rows. A picture of that size with room around the body is a raw one.
    """
    if len(frames) == 0 or frames.shape[1:] not in ((height, height), (height, height * 11 // 16)):
        return False
    rows = np.any(frames, axis=2)
    seen = np.any(rows, axis=1)
    reach = np.any(rows[:, :3], axis=1) & np.any(rows[:, -3:], axis=1)
    return bool(seen.any() and 2 * np.count_nonzero(reach) > np.count_nonzero(seen))


def pad_columns(frames: UInt8[np.ndarray, "s h w"]) -> UInt8[np.ndarray, "s h h"]:
    """Pad frames of w < h columns to squares with empty columns on both sides."""
    missing = frames.shape[1] - frames.shape[2]
    return np.pad(frames, ((0, 0), (0, 0), (missing // 2, missing - missing // 2)))
