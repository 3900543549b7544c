"""The motion of a camera against a reference frame: measured, taken back, and said."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

_SIDE = 480  # pixels of the longer side at which motion is measured
_POINTS = 120
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
        self._points = points if points is not None and len(points) >= 12 else None

    def motion(self, frame: UInt8[np.ndarray, "h w 3"]) -> Motion:
        """Measure the motion of a frame; none where the reference has no points to follow."""
        still = np.array([[1.0, 0, 0], [0, 1, 0]])
        if self._points is None:
            return Motion(still, 0.0)
        found, status, _ = cv2.calcOpticalFlowPyrLK(self._reference, self._small(frame), self._points, None)
        followed = status[:, 0] > 0
        if np.count_nonzero(followed) < 8:
            return Motion(None, np.inf)
        before, after = self._points[followed], found[followed]
        matrix, inliers = cv2.estimateAffinePartial2D(before, after, ransacReprojThreshold=0.7)
        if matrix is None or np.count_nonzero(inliers) < 0.35 * len(self._points):
            return Motion(None, np.inf)
        matrix[:, 2] /= self._scale
        corners = np.array([[0, 0, 1], [self.width, 0, 1], [0, self.height, 1], [self.width, self.height, 1]])
        return Motion(matrix, float(np.abs(corners @ (matrix - still).T).max()))

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
    if np.mean(values > _FAR * longest_side) > 0.1:
        return "moving"
    return "shaking" if np.mean(values > STILL) > 0.02 else "fixed"
