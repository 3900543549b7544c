"""Blobs become tracks: every person is followed, and a track is cut where people touch.

The association is that of norfair (Kalman filter for every box, nearest by IoU). Before it, the overlap of blobs with the
silhouettes that are expected tells which blobs are pieces of one person, which hold several, and where several part.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int32, UInt8
from norfair import Detection, Tracker
from norfair.distances import VectorizedDistance
from norfair.tracker import TrackedObject

from data_prep.video.blobs import Blob, Box, Shape, find_blobs, join, shape_of
from data_prep.video.sources import MaskedFrame

LONGEST = 2000  # frames of a track; a longer one is cut, so that memory is bounded
GAP = 0.6  # seconds after which a person who is not found is given up
_SETTLED = 0.3  # seconds that a track is old before it counts in a merge
_COVERED = 0.35  # share of an expected silhouette that a blob covers to hold that person
_WITHIN = 0.6  # share of a blob that lies within an expected box to be a piece of that person
_PERSON_HEIGHT = 0.55  # of the others' height; a smaller piece is no person
_APART = 0.25  # heights between the middles of two people who part
_UNLIKE, _CLEAR = 0.6, 0.12  # cost of people who are unlike, and how much better than all others a match must be
_CHANGED = 0.3  # distance of colours (Bhattacharyya) at which another person is seen; of one person 99 % are below 0.25
_NEAR = 0.15  # heights between pieces of one person
ONE_TORSO = 0.36  # width of a torso over the height; wider, most often, are two people


class Observation(NamedTuple):
    """A silhouette of a track: frame counted from 0, its box, its pixels as PNG, and measures of blob and shape."""

    frame: int
    box: Box
    png: bytes
    area: int
    sure: float
    largest: float
    shape: Shape

    @property
    def crop(self) -> UInt8[np.ndarray, "h w"]:
        """The pixels within the box, 0 or 255."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


@dataclass
class RawTrack:
    """The observations of a track, and the people in it.

    number: 1, 2, ..., or 0 for people who touch; members: their tracks, which go on where it is clear who is who;
    group: several people in one blob; end: how the track ended, in words; colours: as colours_of; expected: place in
    the picture and velocity in pixels a frame when it was last followed, and the frame.
    """

    number: int
    group: bool = False
    members: list["RawTrack"] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    last: Blob | None = None
    end: str = ""
    colours: Float[np.ndarray, " k"] | None = None
    expected: tuple[np.ndarray, np.ndarray, int] | None = None
    settled: bool = False


class _Found(NamedTuple):
    """A blob to follow: several people or one, the tracks of the several, and the track of the one where it is known."""

    blob: Blob
    group: bool = False
    members: tuple[RawTrack, ...] = ()
    resumed: RawTrack | None = None
    parted: bool = False  # from others: it counts as a person from its first frame


class Follower:
    """Follows the people of a video, frame by frame."""

    def __init__(self, fps: float, height: int, width: int, same_ids: bool = False):
        """same_ids: an id of the masks is the same person in all frames."""
        self._fps, self._size, self._same_ids = fps, (height, width), same_ids
        patience = max(round(GAP * fps), 2)
        self._tracker = Tracker("euclidean", 0.6, patience, initialization_delay=0, past_detections_length=1)
        self._tracker.distance_function = VectorizedDistance(_distances)
        self._live: dict[int, RawTrack] = {}  # by norfair's number
        self._frame = -1
        self._tracks = 0

    def step(self, frame: MaskedFrame) -> tuple[list[RawTrack], list[tuple[int, Blob]]]:
        """Follow into the next frame; returns the tracks that ended, and (track, blob) for what is seen in it."""
        self._frame += 1
        blobs, labels = find_blobs(frame) if frame.usable else ([], np.zeros(self._size, np.int32))
        colours = [colours_of(frame.picture, blob) for blob in blobs]
        ended, found = self._relate(blobs, labels, colours)
        detections = []
        for index, (blob, group, *_) in enumerate(found):
            points = np.array([_middle(blob.box), (blob.box.height, blob.box.height)])
            label = f"{blob.instance if self._same_ids else ''}{'group' if group else 'person'}"
            detections.append(Detection(points, data=(self._frame, index), label=label))
        self._tracker.update(detections)
        ended += self._forget_lost()
        seen = []
        for tracked in self._tracker.tracked_objects:
            when, index = tracked.last_detection.data
            if when != self._frame:
                continue
            blob, group, members, resumed, parted = found[index]
            if tracked.id not in self._live:
                if resumed is None and not group:
                    self._tracks += 1
                number = 0 if group else self._tracks
                self._live[tracked.id] = resumed or RawTrack(number, group, list(members), settled=parted)
            track = self._live[tracked.id]
            _learn_colours(track, blob, colours_of(frame.picture, blob))
            track.last = blob
            track.observations.append(_observe(self._frame, blob))
            seen.append((track.number, blob))
            if len(track.observations) >= LONGEST:
                ended += self._end(tracked, "cut, to bound the memory")
        return ended, seen

    def finish(self) -> list[RawTrack]:
        """End the tracks that still live at the end of the video."""
        ended = [t for track in self._live.values() for t in _close(track, "the video ends")]
        self._live = {}
        return ended

    def _relate(
        self, blobs: list[Blob], labels: Int32[np.ndarray, "h w"], colours: list[np.ndarray]
    ) -> tuple[list[RawTrack], list[_Found]]:
        """Find merges and splits, and join the pieces of one person: the tracks that ended, and what is to follow."""
        living = [t for t in self._tracker.tracked_objects if t.id in self._live]
        covered, within = self._overlaps(living, labels, len(blobs))
        ended, found, taken = [], [], set()
        gone = np.zeros(len(living), bool)
        for b, blob in enumerate(blobs):
            holds = [] if blob.instance else self._people_in(living, np.where(gone, 0, covered[:, b]))
            if len(holds) > 1:
                parked = [self._park(living[t]) for t in holds]
                ended += [track for track in parked if track.number == 0]
                members = [m for track in parked for m in (track.members if track.number == 0 else [track])]
                gone[holds] = True
                found.append(_Found(blob, True, tuple(members)))
                taken.add(b)
        claims = np.where(gone[:, None], 0, covered + (within >= _WITHIN) * within)
        claims = np.vstack([np.full((1, len(blobs)), 0.2), claims])  # nobody's, where all claims are smaller
        owner = claims.argmax(axis=0) - 1
        for t, tracked in enumerate(living):
            mine = [b for b in range(len(blobs)) if owner[b] == t and b not in taken]
            if not mine:
                continue
            taken.update(mine)
            track = self._live[tracked.id]
            pieces = [blobs[b] for b in mine]
            if pieces[0].instance:
                found += [_Found(piece) for piece in pieces]
                continue
            if _parts(track, pieces):
                self._park(tracked)
                track.group = not _was_one(track)
                track.end = "another person appears" if _was_one(track) else "several people part"
                over, parted = self._resume(track.members, pieces, [colours[b] for b in mine])
                ended += [*over, track]
                found += parted
                continue
            whole, others = _join_near(track, pieces, covered[t, mine])
            found += [_Found(blob) for blob in others]
            if track.number == 0 and _is_one_for(track, self._fps):
                self._park(tracked)
                over, parted = self._resume(track.members, [whole], [colours[mine[0]]])
                ended += [*over, track]
                found += parted
            elif not track.group and _unlike(track, whole, colours[mine[0]]):
                ended += self._end(tracked, "the colours change: another person, or hidden in part")
                found.append(_Found(whole))
            else:
                found.append(_Found(whole, track.group))
        found += [_Found(blob) for b, blob in enumerate(blobs) if b not in taken]
        return ended, found

    def _resume(
        self, members: list[RawTrack], pieces: list[Blob], colours: list[np.ndarray]
    ) -> tuple[list[RawTrack], list[_Found]]:
        """Match people who part with the tracks before they touched, by colours and motion, where there is no doubt.

        Returns the tracks that end here, and the pieces to follow.
        """
        costs = np.full((len(members) + 1, len(pieces) + 1), _UNLIKE)
        for m, member in enumerate(members):
            assert member.colours is not None and member.expected is not None and member.last is not None
            place, velocity, when = member.expected
            for p, piece in enumerate(pieces):
                expected = place + velocity * min(self._frame - when, self._fps)
                far = np.hypot(*(_middle(piece.box) - expected)) / member.last.box.height
                costs[m, p] = 1 - np.sqrt(member.colours * colours[p]).sum() + 0.15 * min(far, 2)
        resumed: dict[int, RawTrack] = {}
        for m, member in enumerate(members):
            p = int(costs[m].argmin())
            others = np.concatenate((np.delete(costs[m], p), np.delete(costs[:, p], m)))
            if p < len(pieces) and costs[m, p] + _CLEAR < others.min():
                resumed[p] = member
        over = [member for member in members if all(member is not r for r in resumed.values())]
        for member in over:
            member.end = "touches others"
        return over, [_Found(piece, resumed=resumed.get(p), parted=True) for p, piece in enumerate(pieces)]

    def _overlaps(
        self, living: list[TrackedObject], labels: Int32[np.ndarray, "h w"], blobs: int
    ) -> tuple[Float[np.ndarray, "t b"], Float[np.ndarray, "t b"]]:
        """Share of every expected silhouette that a blob covers, and share of the blob within the expected box."""
        areas = np.maximum(np.bincount(labels.ravel(), minlength=blobs + 1)[1:], 1)
        covered, within = np.zeros((len(living), blobs)), np.zeros((len(living), blobs))
        for t, tracked in enumerate(living):
            last = self._live[tracked.id].last
            assert last is not None
            expected = tracked.estimate[0] + tracked.estimate_velocity.reshape(-1, 2)[0]
            right, down = np.rint(expected - _middle(last.box)).astype(int)
            box = last.box._replace(left=last.box.left + int(right), top=last.box.top + int(down))
            view, mine = _clip(labels, last.crop, box)
            covered[t] = np.bincount(view[mine > 0], minlength=blobs + 1)[1:] / max(cv2.countNonZero(last.crop), 1)
            margin = max(box.height // 10, 2)
            wide = Box(box.left - margin, box.top - margin, box.width + 2 * margin, box.height + 2 * margin)
            around, _ = _clip(labels, None, wide)
            within[t] = np.bincount(around.ravel(), minlength=blobs + 1)[1:] / areas
        return covered, within

    def _people_in(self, living: list[TrackedObject], covered: Float[np.ndarray, " t"]) -> list[int]:
        """Settled tracks whose expected silhouettes a blob covers, but for those that are small near the largest."""
        holds = {int(t): self._live[living[t].id] for t in np.flatnonzero(covered >= _COVERED)}
        tallest = max((track.observations[-1].box.height for track in holds.values()), default=0)
        return [
            t
            for t, track in holds.items()
            if track.observations[-1].box.height >= _PERSON_HEIGHT * tallest
            and (track.settled or len(track.observations) >= _SETTLED * self._fps)
        ]

    def _park(self, tracked: TrackedObject) -> RawTrack:
        """Stop to follow a track, and remember where it is expected."""
        self._tracker.tracked_objects = [t for t in self._tracker.tracked_objects if t is not tracked]
        track = self._live.pop(tracked.id)
        track.expected = (tracked.estimate[0].copy(), tracked.estimate_velocity.reshape(-1, 2)[0].copy(), self._frame)
        return track

    def _end(self, tracked: TrackedObject, end: str) -> list[RawTrack]:
        return _close(self._park(tracked), end)

    def _forget_lost(self) -> list[RawTrack]:
        kept = {tracked.id for tracked in self._tracker.tracked_objects}
        ended = []
        for number in [number for number in self._live if number not in kept]:
            track = self._live.pop(number)
            box = track.observations[-1].box
            leaves = box.left <= 2 or box.top <= 2 or box.right >= self._size[1] - 2 or box.bottom >= self._size[0] - 2
            ended += _close(track, "leaves the picture" if leaves else "vanishes within the picture")
        return ended


def colours_of(picture: UInt8[np.ndarray, "h w 3"], blob: Blob) -> Float[np.ndarray, " k"]:
    """Histogram of the colours of a person's upper and lower half, with sum 1."""
    view = picture[blob.box.slices]
    half = blob.box.height // 2
    histograms = [
        cv2.calcHist([part], [0, 1, 2], mask, [6, 6, 6], [0, 256, 0, 256, 0, 256]).ravel()
        for part, mask in ((view[:half], blob.crop[:half]), (view[half:], blob.crop[half:]))
        if part.size
    ]
    histogram = np.concatenate(histograms) if len(histograms) == 2 else np.tile(histograms[0], 2)
    return histogram / max(float(histogram.sum()), 1.0)


def _distances(new: Float[np.ndarray, "n 4"], followed: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Distance of the middles in heights, and the logarithm of the heights' ratio, of (x, y, height, height)."""
    heights, expected = np.maximum(new[:, None, 2], 1), np.maximum(followed[None, :, 2], 1)
    far = np.hypot(new[:, None, 0] - followed[None, :, 0], new[:, None, 1] - followed[None, :, 1])
    return far / np.maximum(heights, expected) + np.abs(np.log(heights / expected))


def _middle(box: Box) -> Float[np.ndarray, " 2"]:
    return np.array([box.left + box.width / 2, box.top + box.height / 2])


def _close(track: RawTrack, end: str) -> list[RawTrack]:
    track.end = end
    for member in track.members:
        member.end = "touches others"
    return [track, *track.members]


def _observe(frame: int, blob: Blob) -> Observation:
    png = cv2.imencode(".png", blob.crop, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()
    return Observation(frame, blob.box, png, blob.area, blob.sure, blob.largest, shape_of(blob.crop))


def _usual_height(track: RawTrack) -> float:
    return float(np.median([o.box.height for o in track.observations[-15:]]))


def _unlike(track: RawTrack, blob: Blob, colours: np.ndarray) -> bool:
    assert track.colours is not None
    return 1 - float(np.sqrt(track.colours * colours).sum()) > _CHANGED


def _learn_colours(track: RawTrack, blob: Blob, colours: np.ndarray) -> None:
    """Average the colours of a track over frames in which the person is about as tall as usual."""
    if track.colours is None:
        track.colours = colours
    elif abs(np.log(blob.box.height / _usual_height(track))) < 0.2:
        track.colours = 0.9 * track.colours + 0.1 * colours


def _parts(track: RawTrack, pieces: list[Blob]) -> bool:
    """Tell whether the pieces of a track are several people: tall ones that stand apart."""
    usual = _usual_height(track)
    tall = [_middle(p.box) for p in pieces if p.box.height >= _PERSON_HEIGHT * usual]
    return len(tall) > 1 and max(np.ptp(np.stack(tall), axis=0)) >= _APART * usual


def _join_near(track: RawTrack, pieces: list[Blob], covered: np.ndarray) -> tuple[Blob, list[Blob]]:
    """Join the pieces that fit into the usual size of a track, from the one that covers most; the others stay apart."""
    usual = _usual_height(track)
    wide = max(float(np.median([o.box.width for o in track.observations[-15:]])), 0.5 * usual)
    order = np.argsort(-covered)
    whole, others = pieces[order[0]], []
    for p in order[1:]:
        union = join([whole, pieces[p]])
        gap = union.box.height - whole.box.height - pieces[p].box.height
        if gap <= _NEAR * usual and union.box.height <= 1.15 * usual and union.box.width <= 1.3 * wide:
            whole = union
        else:
            others.append(pieces[p])
    return whole, others


def _was_one(track: RawTrack) -> bool:
    shapes = [o.shape for o in track.observations]
    return not track.group and float(np.mean([s.heads > 1 or s.torso > ONE_TORSO for s in shapes])) < 0.2


def _is_one_for(track: RawTrack, fps: float) -> bool:
    recent = [o.shape for o in track.observations[-max(round(fps), 5) :]]
    return len(recent) >= fps and all(s.heads == 1 and s.torso <= ONE_TORSO for s in recent)


def _clip(labels: np.ndarray, crop: np.ndarray | None, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """The part of a box within the picture: its labels, and its part of the crop."""
    top, left = max(box.top, 0), max(box.left, 0)
    view = labels[top : max(box.bottom, 0), left : max(box.right, 0)]
    if crop is None:
        return view, view
    rows, columns = top - box.top, left - box.left
    return view, crop[rows : rows + view.shape[0], columns : columns + view.shape[1]]
