"""The motion of a camera against a reference frame: measured, taken back, and said."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_SIDE = 480  # pixels of the longer side at which motion is measured
_POINTS = 120  # followed
_EDGE = 10  # gray levels a pixel; steeper pixels show whether the camera stands still
_AGREE = 0.4  # of them, in each direction; the others may be people
_LOST = 0.25  # of the frames; where more do not show what the reference shows, the camera moved away
STILL = 0.4  # pixels; less is the noise of the measurement
_FAR = 0.08  # of the picture's longer side; a fixed camera does not shake by more


class Motion(NamedTuple):
    """A camera's motion: the matrix that takes the reference into the frame, and its largest shift of a corner.

    matrix: [2, 3] in pixels, or None where the frame shows too little of the reference. shift: pixels.
    """

    matrix: Float[np.ndarray, "2 3"] | None
    shift: float


class Steadier:
    """Compares frames with a reference by points that are followed (Lucas and Kanade) and a similarity by RANSAC."""

    def __init__(self, reference: UInt8[np.ndarray, "h w 3"]):
        self.height, self.width = reference.shape[:2]
        self._scale = min(1.0, _SIDE / max(self.height, self.width))
        self._reference = self._small(reference)
        points = cv2.goodFeaturesToTrack(self._reference, _POINTS, 0.01, 12)
        across, along = (np.abs(cv2.Sobel(self._reference, cv2.CV_32F, *way, scale=1 / 8)) for way in ((1, 0), (0, 1)))
        sides = (((across > 2 * along) & (across > _EDGE), across), ((along > 2 * across) & (along > _EDGE), along))
        self._edges = [(edges, steepness[edges]) for edges, steepness in sides if np.count_nonzero(edges) >= 30]
        self._points = points if points is not None and len(points) >= 12 else None

    def motion(self, frame: UInt8[np.ndarray, "h w 3"]) -> Motion:
        """Measure the motion of a frame; none where the reference has no points to follow."""
        still = np.array([[1.0, 0, 0], [0, 1, 0]])
        small = self._small(frame)
        if self._points is None or self._stands(small):
            return Motion(still, 0.0)
        found, status, _ = cv2.calcOpticalFlowPyrLK(self._reference, small, self._points, None)
        followed = status[:, 0] > 0
        if np.count_nonzero(followed) < 8:
            return Motion(None, np.inf)
        before, after = self._points[followed, 0], found[followed, 0]
        matrix, inliers = cv2.estimateAffinePartial2D(before, after, ransacReprojThreshold=0.7)
        if matrix is None or np.count_nonzero(inliers) < 0.35 * len(self._points):
            return Motion(None, np.inf)
        matrix[:, 2] /= self._scale
        corners = np.array([[0, 0, 1], [self.width, 0, 1], [0, self.height, 1], [self.width, self.height, 1]])
        return Motion(matrix, float(np.abs(corners @ (matrix - still).T).max()))

    def _stands(self, small: np.ndarray) -> bool:
        """Tell whether the edges of the reference are where they were, those across and those along the picture."""
        difference = cv2.absdiff(small, self._reference)
        shares = [float(np.mean(difference[edges] < 0.4 * steepness + 6)) for edges, steepness in self._edges]
        return bool(shares) and min(shares) >= _AGREE

    def _small(self, frame: np.ndarray) -> np.ndarray:
        gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        if self._scale < 1:
            gray = cv2.resize(gray, None, fx=self._scale, fy=self._scale, interpolation=cv2.INTER_AREA)
        return gray


def take_back(frame: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Move a frame to where the camera of the reference would have seen it."""
    size = (frame.shape[1], frame.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(frame, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def camera_of(shifts: list[float], longest_side: int) -> str:
    """Name a camera by the shifts of a video's frames in pixels: "fixed", "shaking" or "moving"."""
    values = np.array(shifts)
    far = np.isfinite(values) & (values > _FAR * longest_side)
    if np.mean(far) > 0.1 or np.mean(far | np.isinf(values)) > _LOST:
        return "moving"
    return "shaking" if np.mean(values > STILL) > 0.02 else "fixed"
