"""Blobs become tracks: every person is followed, and a track is cut where people touch.

The association is that of norfair (a Kalman filter for every person, the nearest first). Before it, the overlap of
blobs with the silhouettes that are expected tells which blobs are pieces of one person, which hold several people, and
where several part.
"""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int32
from norfair import Detection, Tracker
from norfair.distances import VectorizedDistance
from norfair.tracker import TrackedObject

from data_prep.video.blobs import Blob, Box, find_blobs
from data_prep.video.people import (
    PERSON_HEIGHT,
    Expected,
    RawTrack,
    are_several,
    has_become_one,
    is_another,
    join_near,
    looks_like_one,
    who_is_who,
)
from data_prep.video.sources import MaskedFrame

LONGEST = 2000  # frames of a track; a longer one is cut, so that memory is bounded
LASTING = 5  # frames from which a track gets a number; shorter ones are flicker
_GAP = 0.6  # seconds after which a person who is not found is given up
_SETTLED = 0.3  # seconds that a track is old before it counts where people touch
_FARTHEST = 0.6  # of a person from frame to frame, as _distances measures
_COVERED = 0.35  # share of an expected silhouette that a blob covers to hold that person
_WITHIN = 0.6  # share of a blob that lies within an expected box to be a piece of that person
_CLAIM = 0.2  # the least claim to a blob


class _Found(NamedTuple):
    """A blob to follow.

    members: the tracks of people who touch in it; several: more than one person; resumed: the track of the person,
    where it is known; parted: just parted from others, so that it counts as a person from the first frame.
    """

    blob: Blob
    members: tuple[RawTrack, ...] = ()
    several: bool = False
    resumed: RawTrack | None = None
    parted: bool = False


class Follower:
    """Follows the people of a video, frame by frame."""

    def __init__(self, fps: float, height: int, width: int, same_ids: bool = False):
        """same_ids: an id of the masks is the same person in all frames."""
        self._fps, self._size, self._same_ids = fps, (height, width), same_ids
        patience = max(round(_GAP * fps), 2)
        self._tracker = Tracker("euclidean", _FARTHEST, patience, initialization_delay=0, past_detections_length=1)
        self._tracker.distance_function = VectorizedDistance(_distances)
        self._live: dict[int, RawTrack] = {}  # by norfair's number
        self._frame = -1
        self._begun = self._numbered = 0

    def step(self, frame: MaskedFrame) -> tuple[list[RawTrack], list[RawTrack]]:
        """Follow into the next frame; returns the tracks that ended, and those that are seen in it."""
        self._frame += 1
        blobs, labels = find_blobs(frame) if frame.usable else ([], np.zeros(self._size, np.int32))
        ended, found = self._relate(blobs, labels)
        self._tracker.update([self._detection(index, one) for index, one in enumerate(found)])
        ended += self._forget_lost()
        seen = []
        for tracked in list(self._tracker.tracked_objects):
            when, index = tracked.last_detection.data
            if when != self._frame:
                continue
            one = found[index]
            if tracked.id not in self._live:
                self._live[tracked.id] = self._begin(one)
            track = self._live[tracked.id]
            track.observe(self._frame, one.blob)
            if len(track.observations) == LASTING and not track.members:
                self._numbered += 1
                track.number = self._numbered
            seen.append(track)
            if len(track.observations) >= LONGEST:
                ended += self._park(tracked).close("cut, to bound the memory")
        return ended, seen

    def finish(self) -> list[RawTrack]:
        """End the tracks that still live at the end of the video."""
        ended = [t for track in self._live.values() for t in track.close("the video ends")]
        self._live = {}
        return ended

    def _begin(self, one: _Found) -> RawTrack:
        """Begin a track, or go on with the one that is known."""
        if one.resumed is None:
            self._begun += 1
            return RawTrack(self._begun, one.several, one.members, one.parted)
        for tracked in list(self._tracker.tracked_objects):
            if self._live.get(tracked.id) is one.resumed:
                self._park(tracked)
        return one.resumed

    def _detection(self, index: int, one: _Found) -> Detection:
        points = np.array([one.blob.middle, (one.blob.box.height, one.blob.box.height)])
        label = f"{one.blob.instance if self._same_ids else ''}{'several' if one.several else 'person'}"
        return Detection(points, data=(self._frame, index), label=label)

    def _relate(self, blobs: list[Blob], labels: Int32[np.ndarray, "h w"]) -> tuple[list[RawTrack], list[_Found]]:
        """Find who touches and who parts, and join the pieces of one person: tracks that end, and what is to follow."""
        if blobs and blobs[0].instance:
            return [], [_Found(blob) for blob in blobs]
        living = [t for t in self._tracker.tracked_objects if t.id in self._live]
        covered, within = self._overlaps(living, labels, blobs)
        ended, found, taken = [], [], set()
        gone = np.zeros(len(living), bool)
        for b, blob in enumerate(blobs):
            holds = self._people_in(living, np.where(gone, 0, covered[:, b]))
            if len(holds) > 1:
                parked = [self._park(living[t]) for t in holds]
                ended += [track for track in parked if track.members]
                members = [member for track in parked for member in (track.members or (track,))]
                gone[holds] = True
                found.append(_Found(blob, tuple(members), several=True))
                taken.add(b)
        claims = np.where(gone[:, None], 0, covered + (within >= _WITHIN) * within)
        owner = np.vstack([np.full((1, len(blobs)), _CLAIM), claims]).argmax(axis=0) - 1  # -1: nobody's
        for t, tracked in enumerate(living):
            mine = [b for b in range(len(blobs)) if owner[b] == t and b not in taken]
            if mine:
                taken.update(mine)
                over, pieces = self._follow(tracked, [blobs[b] for b in mine], covered[t, mine])
                ended += over
                found += pieces
        return ended, found + [_Found(blob) for b, blob in enumerate(blobs) if b not in taken]

    def _follow(
        self, tracked: TrackedObject, pieces: list[Blob], covered: Float[np.ndarray, " b"]
    ) -> tuple[list[RawTrack], list[_Found]]:
        """Follow one track into the blobs that are its own: tracks that end, and what is to follow."""
        track = self._live[tracked.id]
        if are_several(track, pieces):
            one = looks_like_one(track)
            track.several = not one
            return self._part(tracked, pieces, "another person appears" if one else "several people part")
        whole, others = join_near(track, pieces, covered)
        rest = [_Found(blob) for blob in others]
        if track.members and has_become_one(track, self._fps):
            ended, found = self._part(tracked, [whole], "one person is left")
            return ended, found + rest
        if not track.several and is_another(track, whole):
            ended = self._park(tracked).close("the colours change: another person, or hidden in part")
            return ended, [_Found(whole), *rest]
        same = track if track.members else None  # people who touch stay together, however their outline changes
        return [], [_Found(whole, track.members, track.several, same), *rest]

    def _part(self, tracked: TrackedObject, pieces: list[Blob], end: str) -> tuple[list[RawTrack], list[_Found]]:
        track = self._park(tracked)
        track.parted_at = None if track.members else self._frame
        matches = who_is_who(track.members, pieces, self._frame, self._fps)
        resumed = list(matches.values())
        ended = [t for t in track.close(end) if t not in resumed]
        return ended, [_Found(piece, resumed=matches.get(p), parted=True) for p, piece in enumerate(pieces)]

    def _overlaps(
        self, living: list[TrackedObject], labels: Int32[np.ndarray, "h w"], blobs: list[Blob]
    ) -> tuple[Float[np.ndarray, "t b"], Float[np.ndarray, "t b"]]:
        """Share of every expected silhouette that a blob covers, and share of the blob within the expected box."""
        areas = np.array([blob.area for blob in blobs])
        covered, within = np.zeros((len(living), len(blobs))), np.zeros((len(living), len(blobs)))
        for t, tracked in enumerate(living):
            last = self._live[tracked.id].last
            assert last is not None
            right, down = np.rint(_place(tracked) + _velocity(tracked) - last.middle).astype(int)
            box = last.box._replace(left=last.box.left + int(right), top=last.box.top + int(down))
            view, mine = _clip(labels, last.crop, box)
            covered[t] = np.bincount(view[mine > 0], minlength=len(blobs) + 1)[1:] / max(cv2.countNonZero(last.crop), 1)
            margin = max(box.height // 10, 2)
            wide = Box(box.left - margin, box.top - margin, box.width + 2 * margin, box.height + 2 * margin)
            around, _ = _clip(labels, None, wide)
            within[t] = np.bincount(around.ravel(), minlength=len(blobs) + 1)[1:] / areas
        return covered, within

    def _people_in(self, living: list[TrackedObject], covered: Float[np.ndarray, " t"]) -> list[int]:
        """Settled tracks whose expected silhouettes a blob covers, but for those that are small near the largest."""
        holds = {int(t): self._live[living[t].id] for t in np.flatnonzero(covered >= _COVERED)}
        tallest = max((track.observations[-1].box.height for track in holds.values()), default=0)
        return [
            t
            for t, track in holds.items()
            if track.observations[-1].box.height >= PERSON_HEIGHT * tallest
            and (track.settled or len(track.observations) >= _SETTLED * self._fps)
        ]

    def _park(self, tracked: TrackedObject) -> RawTrack:
        """Stop to follow a track, and remember where it is expected."""
        self._tracker.tracked_objects = [t for t in self._tracker.tracked_objects if t is not tracked]
        track = self._live.pop(tracked.id)
        track.expected = Expected(_place(tracked), _velocity(tracked), self._frame)
        return track

    def _forget_lost(self) -> list[RawTrack]:
        kept = {tracked.id for tracked in self._tracker.tracked_objects}
        ended = []
        for number in [number for number in self._live if number not in kept]:
            track = self._live.pop(number)
            box = track.observations[-1].box
            leaves = box.left <= 2 or box.top <= 2 or box.right >= self._size[1] - 2 or box.bottom >= self._size[0] - 2
            ended += track.close("leaves the picture" if leaves else VANISHES)
        return ended


VANISHES = "vanishes within the picture"


def _distances(new: Float[np.ndarray, "n 4"], followed: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Distance of the middles in heights, and the logarithm of the heights' ratio, of (x, y, height, height)."""
    heights, expected = np.maximum(new[:, None, 2], 1), np.maximum(followed[None, :, 2], 1)
    far = np.hypot(new[:, None, 0] - followed[None, :, 0], new[:, None, 1] - followed[None, :, 1])
    return far / np.maximum(heights, expected) + np.abs(np.log(heights / expected))


def _place(tracked: TrackedObject) -> Float[np.ndarray, " 2"]:
    return np.array(tracked.estimate[0], float)


def _velocity(tracked: TrackedObject) -> Float[np.ndarray, " 2"]:
    return np.array(tracked.estimate_velocity, float).reshape(-1, 2)[0]


def _clip(labels: np.ndarray, crop: np.ndarray | None, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The part of a box within the picture: its labels, and its part of the crop."""
    top, left = max(box.top, 0), max(box.left, 0)
    view = labels[top : max(box.bottom, 0), left : max(box.right, 0)]
    if crop is None:
        return view, view
    rows, columns = top - box.top, left - box.left
    return view, crop[rows : rows + view.shape[0], columns : columns + view.shape[1]]
