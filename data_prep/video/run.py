"""From a source of masks to the tracks of a video: who is kept, who is left out and why, and what is doubtful."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from data_prep.video.fixed_camera import FixedCamera
from data_prep.video.follow import LASTING, VANISHES, Follower
from data_prep.video.given import GivenMasks
from data_prep.video.network import SegmentationNetwork
from data_prep.video.people import Observation, RawTrack
from data_prep.video.quality import Judged, Limits, judge
from data_prep.video.reader import video_info
from data_prep.video.sources import MaskSource, Remarks, Tick

_MARGIN = 2  # pixels around the largest box of a track
_VANISHING = 0.3  # of the tracks; where more vanish within the picture, people melt into the background
_FAINT = 0.5  # of a person's pixels; with fewer sure ones the clothes are like the background


class Track(NamedTuple):
    """One person, followed through a video.

    name: <video>-<number>; first, last: of its frames, counted from 1; frames: those of the silhouettes, since frames of
    low quality are left out; silhouettes: white on black, at the scale of the video, the box of the person at the bottom
    and in the middle of each; quality: of the track, 0 to 1; frame_quality: of every silhouette; boxes: left, top, width,
    height in the picture, in pixels; end: why the track ends.
    """

    name: str
    number: int
    first: int
    last: int
    frames: Int[np.ndarray, " s"]
    silhouettes: UInt8[np.ndarray, "s h w"]
    quality: float
    frame_quality: Float[np.ndarray, " s"]
    boxes: Int[np.ndarray, "s 4"]
    end: str


class LeftOut(NamedTuple):
    """A track that is not kept: its number, its frames counted from 1, how many of them show it, and the reason."""

    number: int
    first: int
    last: int
    frames: int
    reason: str


class Verdict(NamedTuple):
    """Of every uid: number, score, reason to leave the track out or "", and its kept frames, counted from 0."""

    number: int
    score: float
    reason: str
    kept: frozenset[int]


class SeenFrame(NamedTuple):
    """Who is seen in a frame, for its picture: (uid, touches others, observation); matrix: the motion taken back."""

    matrix: Float[np.ndarray, "2 3"] | None
    usable: bool
    seen: list[tuple[int, bool, Observation]]


@dataclass
class Summary:
    """Numbers of a video. at_once: people in a frame, at most; occupied: frames in which somebody is seen."""

    frames: int = 0
    at_once: int = 0
    occupied: int = 0
    flicker: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    remarks: Remarks = field(default_factory=Remarks)


class VideoTracks:
    """The tracks of one video, each yielded when it ends; the summary is complete once all were taken."""

    def __init__(self, name: str, source: MaskSource, limits: Limits, spool: BinaryIO | None = None):
        """spool: an open file to which every frame's SeenFrame is pickled, for pictures in a second pass."""
        self.name, self.source, self.limits = name, source, limits
        self.summary = Summary()
        self.verdicts: dict[int, Verdict] = {}
        self._spool = spool
        self._tracks = self._vanished = self._faint = 0

    def tracks(self, tick: Tick) -> Iterator[Track]:
        """Follow the people through the video; tick is called once a frame that was read."""
        info, summary = self.source.info, self.summary
        follower = Follower(info.fps, info.height, info.width, self.source.same_ids)
        for frame in self.source.frames(tick):
            ended, seen = follower.step(frame)
            people = [track for track in seen if track.number or track.members]
            summary.frames += 1
            summary.occupied += bool(people)
            tall = [t for t in people if t.observations[-1].box.height >= self.limits.least_height]
            summary.at_once = max(summary.at_once, sum(max(len(t.members), 1) for t in tall))
            if self._spool is not None:
                records = [(track.uid, bool(track.members), track.observations[-1]) for track in seen]
                pickle.dump(SeenFrame(frame.matrix, frame.usable, records), self._spool)
            yield from self._judge(ended)
        yield from self._judge(follower.finish())
        summary.remarks.problems += self.source.remarks.problems
        summary.remarks.notes += self.source.remarks.notes
        self._remark()

    def _judge(self, ended: list[RawTrack]) -> Iterator[Track]:
        info = self.source.info
        for raw in ended:
            if raw.members or len(raw.observations) < LASTING:
                self.summary.flicker += not raw.members
                continue
            judged = judge(raw, info.fps, (info.height, info.width), self.limits)
            frames = [o.frame for o in raw.observations]
            kept = frozenset(frame for frame, keep in zip(frames, judged.kept, strict=True) if keep)
            self.verdicts[raw.uid] = Verdict(raw.number, judged.score, judged.reason, kept)
            if len(frames) >= self.limits.least_frames and not judged.reason.startswith("too small"):
                self._tracks += 1
                self._vanished += raw.end == VANISHES
                self._faint += float(np.median([o.sure for o in raw.observations])) < _FAINT
            if judged.reason:
                left_out = LeftOut(raw.number, frames[0] + 1, frames[-1] + 1, len(frames), judged.reason)
                self.summary.left_out.append(left_out)
            else:
                yield _track(f"{self.name}-{raw.number}", judged)

    def _remark(self) -> None:
        remarks = self.summary.remarks
        for count, words in (
            (self._vanished, "end within the picture: people hidden, or who melt into the background"),
            (self._faint, "are faint: clothes of the background's colours"),
        ):
            if count:
                many = count > _VANISHING * self._tracks and count > 1
                (remarks.problems if many else remarks.notes).append(f"{count} of {self._tracks} long tracks {words}")


def open_source(
    path: Path, masks: bool = False, model: Path | None = None, person: int = 1, pixels: str = "imagenet"
) -> MaskSource:
    """Choose the source of masks: given ones, a network's, or the subtraction of a fixed background.

    Raises ValueError for a video or a model that cannot be read.
    """
    if masks:
        return GivenMasks(path)
    info = video_info(path)
    if model is not None:
        return SegmentationNetwork(path, info, model, person, pixels)
    return FixedCamera(path, info)


def tracks_of_video(
    path: str | Path,
    masks: bool = False,
    model: str | Path | None = None,
    person: int = 1,
    pixels: str = "imagenet",
    limits: Limits | None = None,
) -> Iterator[Track]:
    """Yield the people of a video, each as a Track when it ends, in constant memory.

    masks: the video shows masks, white or one colour for every person, on black. model: an ONNX file of a segmentation
    network; person: its class (or label) for a person; pixels: how its input is scaled, a name of network.INPUTS. Raises
    ValueError where the video cannot be read, or where its camera moves and no model is given.
    """
    path = Path(path)
    video = VideoTracks(
        path.stem, open_source(path, masks, Path(model) if model else None, person, pixels), limits or Limits()
    )
    yield from video.tracks(lambda: None)
    if not video.summary.frames:
        raise ValueError(f"{path}: {'; '.join(video.summary.remarks.problems)}")


def _track(name: str, judged: Judged) -> Track:
    kept = [o for o, keep in zip(judged.track.observations, judged.kept, strict=True) if keep]
    frames = np.array([o.frame + 1 for o in kept])
    height = max(o.box.height for o in kept) + 2 * _MARGIN
    width = max(o.box.width for o in kept) + 2 * _MARGIN
    silhouettes = np.zeros((len(kept), height, width), np.uint8)
    for silhouette, observation in zip(silhouettes, kept, strict=True):
        box = observation.box
        left, top = (width - box.width) // 2, height - _MARGIN - box.height
        silhouette[top : top + box.height, left : left + box.width] = observation.crop
    boxes = np.array([o.box for o in kept])
    quality = judged.quality[judged.kept]
    first, last = int(frames[0]), int(frames[-1])
    track = judged.track
    return Track(name, track.number, first, last, frames, silhouettes, judged.score, quality, boxes, track.end)
