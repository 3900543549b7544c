"""The observations of a track, and what they tell: one person or several, pieces of one, the same person as before."""

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from data_prep.video.blobs import Blob, Box, Shape, join, shape_of, unlikeness

PERSON_HEIGHT = 0.55  # of the others' height; a smaller piece is no person
ONE_TORSO = 0.36  # width of a torso over the height; wider, most often, are two people
_APART = 0.25  # heights between the middles of two people who part
_NEAR = 0.15  # heights between pieces of one person
_UNLIKE, _CLEAR = 0.6, 0.12  # cost of people who are unlike, and how much better than all others a match must be
_CHANGED = 0.3  # distance of colours at which another person is seen; of one person 99 of 100 are below 0.25
_RECENT = 15  # observations that say what is usual


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


class Expected(NamedTuple):
    """Where somebody was when last followed: place (x, y), velocity in pixels a frame, and the frame."""

    place: Float[np.ndarray, " 2"]
    velocity: Float[np.ndarray, " 2"]
    frame: int


@dataclass(eq=False)
class RawTrack:
    """The observations of a track.

    uid: a number for every track; number: 1, 2, ... for those that last, 0 before and for people who touch. several:
    more than one person in a blob; members: the tracks of people who touch, which go on where it is clear who is who;
    settled: counts as a person from its first frame; parted_at: the frame in which another person came out of the
    blob; end: how the track ended, in words.
    """

    uid: int
    several: bool = False
    members: tuple["RawTrack", ...] = ()
    settled: bool = False
    number: int = 0
    observations: list[Observation] = field(default_factory=list)
    last: Blob | None = None
    colours: Float[np.ndarray, " k"] | None = None
    expected: Expected | None = None
    parted_at: int | None = None
    end: str = ""

    def observe(self, frame: int, blob: Blob) -> None:
        """Add what is seen of the track in a frame."""
        if self.colours is None:
            self.colours = blob.colours
        elif abs(np.log(blob.box.height / self.usual_height)) < 0.2:  # hidden in part, a person shows other colours
            self.colours = 0.9 * self.colours + 0.1 * blob.colours
        png = cv2.imencode(".png", blob.crop, (cv2.IMWRITE_PNG_COMPRESSION, 1))[1].tobytes()
        shape = shape_of(blob.crop)
        self.observations.append(Observation(frame, blob.box, png, blob.area, blob.sure, blob.largest, shape))
        self.last = blob

    def close(self, end: str) -> list["RawTrack"]:
        """End the track, and those of its members; returns all of them."""
        self.end = end
        for member in self.members:
            member.end = "touches others"
        return [self, *self.members]

    @property
    def usual_height(self) -> float:
        """The median height of the latest observations, in pixels."""
        return float(np.median([o.box.height for o in self.observations[-_RECENT:]]))

    @property
    def usual_width(self) -> float:
        """The median width of the latest observations, in pixels."""
        return float(np.median([o.box.width for o in self.observations[-_RECENT:]]))


def looks_like_one(track: RawTrack) -> bool:
    """Tell whether a track, in four of five frames, had one head and a slim torso."""
    shapes = [o.shape for o in track.observations]
    return not track.several and float(np.mean([s.heads > 1 or s.torso > ONE_TORSO for s in shapes])) < 0.2


def has_become_one(track: RawTrack, fps: float) -> bool:
    """Tell whether people who touched look like one person for a second: the others are gone."""
    recent = [o.shape for o in track.observations[-max(round(fps), 5) :]]
    return len(recent) >= fps and all(s.heads == 1 and s.torso <= ONE_TORSO for s in recent)


def are_several(track: RawTrack, pieces: list[Blob]) -> bool:
    """Tell whether the pieces of a track are several people: tall ones that stand apart."""
    usual = track.usual_height
    tall = [piece.middle for piece in pieces if piece.box.height >= PERSON_HEIGHT * usual]
    return len(tall) > 1 and max(np.ptp(np.stack(tall), axis=0)) >= _APART * usual


def is_another(track: RawTrack, blob: Blob) -> bool:
    """Tell whether the colours of a blob are not those of the track."""
    assert track.colours is not None
    return unlikeness(track.colours, blob.colours) > _CHANGED


def join_near(track: RawTrack, pieces: list[Blob], covered: ndarray) -> tuple[Blob, list[Blob]]:
    """Join the pieces that fit into the usual size of a track, from the one that covers most; the others stay apart."""
    usual = track.usual_height
    widest = 1.3 * max(track.usual_width, 0.5 * usual)
    order = np.argsort(-covered)
    whole, others = pieces[order[0]], []
    for p in order[1:]:
        piece = pieces[p]
        union = join([whole, piece])
        gap = max(
            union.box.height - whole.box.height - piece.box.height, union.box.width - whole.box.width - piece.box.width
        )
        if gap <= _NEAR * usual and union.box.height <= 1.15 * usual and union.box.width <= widest:
            whole = union
        else:
            others.append(piece)
    return whole, others


def who_is_who(members: tuple[RawTrack, ...], pieces: list[Blob], frame: int, fps: float) -> dict[int, RawTrack]:
    """Match people who part with the tracks before they touched, by colours and motion: piece -> track.

    Only where there is no doubt: the match is better, by a margin, than any other of this track and of this piece.
    """
    costs = np.full((len(members) + 1, len(pieces) + 1), _UNLIKE)
    for m, member in enumerate(members):
        expected = member.expected
        assert member.colours is not None
        assert expected is not None
        assert member.last is not None
        place = expected.place + expected.velocity * min(frame - expected.frame, fps)
        for p, piece in enumerate(pieces):
            far = float(np.hypot(*(piece.middle - place))) / member.last.box.height
            costs[m, p] = unlikeness(member.colours, piece.colours) + 0.15 * min(far, 2)
    matches = {}
    for m, member in enumerate(members):
        p = int(costs[m].argmin())
        others = np.concatenate((np.delete(costs[m], p), np.delete(costs[:, p], m)))
        if p < len(pieces) and costs[m, p] + _CLEAR < others.min():
            matches[p] = member
    return matches
