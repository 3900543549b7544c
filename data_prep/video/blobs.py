"""Connected regions of a mask, and the measures of their shape that tell one person from two."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8

from data_prep.video.sources import MaskedFrame

_SMALLEST = 2e-4  # of the picture; a smaller region is noise
_SUREST = 0.15  # of a region; with fewer sure pixels it is noise
_HEAD_BAND = (0.06, 0.24)  # of the height, from above: where the heads of people of like height are
_TORSO_BAND = (0.18, 0.5)
_STREAK = (0.06, 0.3)  # heights: what is flatter and longer than this is no part of a body
_LEGS = 0.45  # of the height, from below


class Box(NamedTuple):
    """A box in a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column after the box."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row after the box."""
        return self.top + self.height

    @property
    def slices(self) -> tuple[slice, slice]:
        """The rows and columns of the box."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Blob(NamedTuple):
    """A region of a mask.

    crop: its pixels within the box, 0 or 255. sure: share of sure pixels. largest: share of its largest piece, 1 where
    it is one piece. colours: histogram of its upper and its lower half, with sum 1. instance: its id in masks that tell
    instances apart, 0 otherwise.
    """

    box: Box
    crop: UInt8[np.ndarray, "h w"]
    area: int
    colours: Float[np.ndarray, " k"]
    sure: float = 1.0
    largest: float = 1.0
    instance: int = 0

    @property
    def middle(self) -> Float[np.ndarray, " 2"]:
        """The middle (x, y) of the box."""
        return np.array([self.box.left + self.box.width / 2, self.box.top + self.box.height / 2])


class Shape(NamedTuple):
    """Measures of a silhouette. heads: 1 or 2; torso: its width over the height; legs: [12, 12], 0 to 255."""

    heads: int
    torso: float
    legs: UInt8[np.ndarray, "12 12"]


def find_blobs(frame: MaskedFrame) -> tuple[list[Blob], Int32[np.ndarray, "h w"]]:
    """Find the regions of a mask that are large and sure enough, and label their pixels 1, 2, ... in that order."""
    if frame.ids is not None:
        return _instances(frame)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(frame.mask, connectivity=8, ltype=cv2.CV_32S)
    blobs, numbers = [], np.zeros(labels.shape, np.int32)
    for label in range(1, len(stats)):
        left, top, width, height, area = (int(number) for number in stats[label])
        if area < _SMALLEST * frame.mask.size:
            continue
        box = Box(left, top, width, height)
        crop = np.where(labels[box.slices] == label, np.uint8(255), np.uint8(0))
        box, crop = _without_streaks(box, crop)
        if not crop.size or (area := cv2.countNonZero(crop)) < _SMALLEST * frame.mask.size:
            continue
        sure = cv2.countNonZero(cv2.bitwise_and(crop, frame.sure[box.slices])) / area
        if sure >= _SUREST:
            blobs.append(Blob(box, crop, area, colours_of(frame.picture, box, crop), sure))
            numbers[box.slices][crop > 0] = len(blobs)
    return blobs, numbers


def join(blobs: list[Blob]) -> Blob:
    """Join pieces of one person into a blob."""
    if len(blobs) == 1:
        return blobs[0]
    left, top = min(b.box.left for b in blobs), min(b.box.top for b in blobs)
    right, bottom = max(b.box.right for b in blobs), max(b.box.bottom for b in blobs)
    crop = np.zeros((bottom - top, right - left), np.uint8)
    for blob in blobs:
        rows, columns = blob.box.slices
        crop[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] |= blob.crop
    areas = np.array([blob.area for blob in blobs])
    sure = float(np.average([blob.sure for blob in blobs], weights=areas))
    box = Box(left, top, right - left, bottom - top)
    colours = np.average([blob.colours for blob in blobs], axis=0, weights=areas)
    return Blob(box, crop, int(areas.sum()), colours, sure, float(areas.max() / areas.sum()))


def colours_of(
    picture: UInt8[np.ndarray, "h w 3"], box: Box, crop: UInt8[np.ndarray, "h2 w2"]
) -> Float[np.ndarray, " k"]:
    """Count the colours of a person's upper and lower half: 6 x 6 x 6 bins each, with sum 1."""
    view, half = picture[box.slices], box.height // 2
    histograms = [
        cv2.calcHist([view[rows]], [0, 1, 2], crop[rows], [6, 6, 6], [0, 256, 0, 256, 0, 256]).ravel()
        if view[rows].size
        else np.zeros(6**3, np.float32)
        for rows in (slice(0, half), slice(half, None))
    ]
    histogram = np.concatenate(histograms).astype(float)
    return histogram / max(float(histogram.sum()), 1.0)


def unlikeness(one: Float[np.ndarray, " k"], other: Float[np.ndarray, " k"]) -> float:
    """Distance of two colour histograms, 0 to 1: 1 minus the Bhattacharyya coefficient."""
    return 1 - float(np.sqrt(one * other).sum())


def shape_of(crop: UInt8[np.ndarray, "h w"]) -> Shape:
    """Measure a silhouette that fills its box."""
    height, width = crop.shape
    body = crop > 0
    band = body[int(_HEAD_BAND[0] * height) : max(int(_HEAD_BAND[1] * height), 1)]
    two = sum(_wide_runs(row, max(0.05 * height, 2)) >= 2 for row in band)
    heads = 2 if two >= max(0.25 * len(band), 2) else 1
    torso_rows = body[int(_TORSO_BAND[0] * height) : max(int(_TORSO_BAND[1] * height), 1)]
    torso = float(np.quantile(torso_rows.sum(axis=1), 0.8)) / height if len(torso_rows) else 0.0
    columns = np.flatnonzero(torso_rows.any(axis=0)) if len(torso_rows) else np.array([width // 2])
    centre = int(columns.mean()) if len(columns) else width // 2
    rows = max(int(_LEGS * height), 1)
    legs = np.pad(crop[height - rows :], ((0, 0), (rows, rows)))[:, centre + rows - rows // 2 :][:, :rows]
    return Shape(heads, torso, np.asarray(cv2.resize(legs, (12, 12), interpolation=cv2.INTER_AREA), np.uint8))


def _without_streaks(box: Box, crop: np.ndarray) -> tuple[Box, np.ndarray]:
    """Cut off long flat parts, like a barrier tape that moves behind a person."""
    thin = max(round(_STREAK[0] * box.height), 2)
    flat = cv2.subtract(crop, cv2.morphologyEx(crop, cv2.MORPH_OPEN, np.ones((thin + 1, 1), np.uint8)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=8)
    long = np.flatnonzero(stats[:, cv2.CC_STAT_WIDTH] > _STREAK[1] * box.height)
    long = long[long > 0]
    if not len(long):
        return box, crop
    crop = np.where(np.isin(labels, long), np.uint8(0), crop)
    left, top, width, height = cv2.boundingRect(crop)
    inner = Box(left, top, width, height)
    return Box(box.left + left, box.top + top, width, height), crop[inner.slices]


def _wide_runs(row: np.ndarray, least: float) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], row.view(np.int8), [0]))))
    starts, stops = edges[::2], edges[1::2]
    if len(starts) > 1:
        gaps = starts[1:] - stops[:-1] >= least
        starts, stops = starts[np.concatenate(([True], gaps))], stops[np.concatenate((gaps, [True]))]
    return int(np.count_nonzero(stops - starts >= least))


def _instances(frame: MaskedFrame) -> tuple[list[Blob], np.ndarray]:
    ids = frame.ids
    assert ids is not None
    blobs, labels = [], np.zeros(ids.shape, np.int32)
    for instance in np.unique(ids[ids > 0]):
        body = np.where(ids == instance, np.uint8(255), np.uint8(0))
        left, top, width, height = cv2.boundingRect(body)
        box, area = Box(left, top, width, height), cv2.countNonZero(body)
        if area < _SMALLEST * ids.size:
            continue
        crop = body[box.slices]
        pieces, _, stats, _ = cv2.connectedComponentsWithStats(body, connectivity=8)
        largest = max(int(stats[piece][4]) for piece in range(1, pieces)) / area
        colours = colours_of(frame.picture, box, crop)
        blobs.append(Blob(box, crop, area, colours, largest=largest, instance=int(instance)))
        labels[body > 0] = len(blobs)
    return blobs, labels
