"""People in videos as sequences of silhouettes, through data_prep.video, which is imported late."""

import atexit
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from gil_jax.data.source import SequenceTable
from gil_jax.raw_sequences import FIX, FileSequences


class Seen(NamedTuple):
    """A track in a video: its number, its first and last frame, counted from 1, and frames a second (None: unknown)."""

    track: int
    first: int
    last: int
    fps: float | None

    @property
    def seconds(self) -> tuple[float, float] | None:
        """When the first frame begins and the last one ends, from the beginning of the video."""
        return ((self.first - 1) / self.fps, self.last / self.fps) if self.fps else None


class VideoSequences:
    """The people of a video, or of a folder of videos, a sequence each; they are followed when first asked for.

    place: the video or the folder. keep: a folder for silhouettes, tracks.json and pictures; empty for a temporary one,
    without pictures, which lasts as long as the process. on_error: "stop" at a video that can't be read, or "skip" it.
    warn: called with what is not read. What becomes of each video is printed on stderr. The fingerprint is of names,
    sizes and times of the videos, so that embeddings of the same ones are found again without following anybody.
    """

    def __init__(self, place: Path, height: int, on_error: str, keep: str, warn: Callable[[str], None]):
        from data_prep.video.names import list_videos

        self._place, self.height, self.dataset = place, height, place.resolve().stem
        self._on_error, self._keep, self._warn = on_error, keep, warn
        self._root = place if place.is_dir() else place.parent
        self._listing = list_videos(place)
        digest = hashlib.sha256(f"videos {height}".encode())
        for path in self._listing.videos:
            stat = path.stat()
            digest.update(f"{path.relative_to(self._root)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        self.fingerprint = digest.hexdigest()[:32]
        self.videos: list[dict[str, Any]] = []  # entries of tracks.json, once the people were followed
        self.faults: dict[str, str] = {}

    @cached_property
    def folder(self) -> Path:
        """The folder with the silhouettes and tracks.json. Raises ValueError where nobody is found."""
        from data_prep.video.folder import VideoOptions, describe_unread, write_videos
        from data_prep.video.outputs import report

        if self._keep:
            out = Path(self._keep).expanduser()
        else:
            temporary = tempfile.TemporaryDirectory(prefix="gil_jax_")
            atexit.register(temporary.cleanup)
            out = Path(temporary.name)
        options = VideoOptions(pictures=bool(self._keep))
        for path, written in write_videos(self._listing, self._root, out, options):
            if not isinstance(written, ValueError):
                tqdm.write(report(written, options.limits.least_frames), file=sys.stderr)
                self.videos.append(written.entry)
            elif self._on_error == "stop":
                raise ValueError(f"{written}. {FIX}") from written
            else:
                self.faults[str(path)] = str(written).removeprefix(f"{path}: ")
        for text in describe_unread(self._listing, self._root):
            self._warn(text)
        if not any(video["tracks"] for video in self.videos):
            raise ValueError(
                f"--data={self._place}: nobody is found who could be embedded; python -m data_prep.video has options "
                "for other videos (docs/video.md)"
            )
        if self._keep:
            tqdm.write(f"{out}: silhouettes, tracks.json, and pictures with the numbers of the tracks", file=sys.stderr)
        return out

    @cached_property
    def _files(self) -> FileSequences:
        from data_prep.walk import walk_folders

        folder = self.folder  # after which the videos are known
        # A folder that is kept may hold other videos, too.
        wanted = {str(folder / track["folder"]) for video in self.videos for track in video["tracks"]}
        silhouettes = folder / "silhouettes"
        units = [unit for unit in walk_folders(silhouettes, "").units if unit.place in wanted]
        return FileSequences(silhouettes, units, self.height)

    @property
    def table(self) -> SequenceTable:
        """Labels and lengths."""
        return self._files.table

    @property
    def names(self) -> list[str]:
        """<subject>/<condition>/<view> of every track; of a video with several people the subject ends in -<track>."""
        return self._files.names

    @property
    def left_out(self) -> set[int]:
        """Rows that turned out to show nobody."""
        return self._files.left_out

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]:
        """Read and align a track."""
        return self._files[index]

    def check_one_each(self) -> None:
        """Raise ValueError that names the tracks of a video where they are several: it is not clear who is meant."""
        kept = self._keep or "<dir>"
        assert self.folder  # the people are followed
        for video in (video for video in self.videos if len(video["tracks"]) > 1):
            tracks = [Seen(t["track"], t["first"], t["last"], video["fps"]) for t in video["tracks"]]
            listed = "; ".join(map(describe_seen, tracks))
            raise ValueError(
                f"{video['video']} shows {len(tracks)} tracks, and who is to be enrolled is not clear: {listed}. "
                + ("" if self._keep else "Give --keep=<dir> to look at them. ")
                + f"{kept}/pictures shows them with their numbers: delete the others' folders in {kept}/silhouettes, "
                f"then enroll --data={kept}/silhouettes --name={video['tracks'][0]['subject'].rpartition('-')[0]}"
            )


def describe_seen(seen: Seen) -> str:
    """Say which track of a video a sequence is, and when: "track 3, frames 120 to 310 (0:04.8 to 0:12.4)"."""
    text = f"track {seen.track}, frames {seen.first} to {seen.last}"
    return text if seen.seconds is None else f"{text} ({' to '.join(map(_clock, seen.seconds))})"


def read_tracks(data: str | Path) -> dict[str, Seen]:
    """Read which frames of a video the sequences of `data` show: {"street-3/nm-01/000": Seen}.

    data: the folder of silhouettes that data_prep.video wrote next to its tracks.json, or the folder of both. Empty for
    other data, and where tracks.json can't be read.
    """
    folder = Path(data)
    path = next((path for path in (folder / "tracks.json", folder.parent / "tracks.json") if path.is_file()), None)
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"] if path else []
        return {
            f"{track['subject']}/{track['condition']}/{track['view']}": Seen(
                int(track["track"]), int(track["first"]), int(track["last"]), float(video["fps"]) or None
            )
            for video in videos
            for track in video["tracks"]
        }
    except (ValueError, LookupError, TypeError):
        return {}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
