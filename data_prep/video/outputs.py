"""The files of a video: silhouettes in folders, tracks.json, and what a reader of the terminal has to know."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from data_prep.video.names import Labels
from data_prep.video.pictures import draw_video
from data_prep.video.run import Track, VideoTracks
from data_prep.video.sources import Tick

SILHOUETTES, PICTURES, INDEX = "silhouettes", "pictures", "tracks.json"
VERSION = 1  # of tracks.json
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class Written(NamedTuple):
    """A video's entry of tracks.json, and its status: "good", "doubtful" or "failed"."""

    entry: dict[str, Any]
    status: str


def write_video(
    video: VideoTracks, path: Path, labels: Labels, out: Path, tick: Tick, pictures: bool = True
) -> Written:
    """Write the tracks of a video, all or none, its pictures if they are wanted, and its entry of tracks.json.

    One kept person is <subject>/<condition>/<view>, several are <subject>-<number>/<condition>/<view>. What an earlier
    run wrote for the same video is replaced. Raises ValueError for a file that is no video.
    """
    out.mkdir(parents=True, exist_ok=True)
    name = "-".join(labels[:3]) if labels.stated else labels.subject
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=out) as partial:
        entries = []
        with open(Path(partial) / "spool", "w+b") as spool:
            for track in video.tracks(tick, spool if pictures else None):
                _write_silhouettes(Path(partial) / str(track.number), track)
                entries.append(_track_entry(track))
            entries.sort(key=lambda entry: entry["track"])
            spool.seek(0)
            files = []
            if video.summary.frames and pictures:
                frames = video.source.pictures()
                fps = video.source.info.fps
                files = draw_video(frames, spool, video.verdicts, fps, name, out / PICTURES, tick)
        _forget(out, path)
        for entry in entries:
            subject = labels.subject if len(entries) == 1 else f"{labels.subject}-{entry['track']}"
            folder = Path(SILHOUETTES, subject, labels.condition, labels.view)
            entry |= {"subject": subject, "condition": labels.condition, "view": labels.view, "folder": str(folder)}
            shutil.rmtree(out / folder, ignore_errors=True)
            (out / folder).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(partial) / str(entry["track"]), out / folder)
    if labels.stated and len(entries) > 1:
        video.summary.remarks.problems.append(
            f"the name says one person, {labels.subject}; {len(entries)} tracks are kept: look at the pictures, and "
            f"delete or rename the folders of {labels.subject}-<track>"
        )
    status = "failed" if not entries else "doubtful" if video.summary.remarks.problems else "good"
    entry = _video_entry(video, path, name, status, entries, [str(file.relative_to(out)) for file in files])
    _write_index(out, [*read_index(out), entry])
    return Written(entry, status)


def read_index(out: Path) -> list[dict[str, Any]]:
    """Read the entries of tracks.json, one a video; none where there is no file. Raises ValueError for another file."""
    path = out / INDEX
    if not path.exists():
        return []
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["version"] == VERSION:
            return index["videos"]
    except (json.JSONDecodeError, KeyError, TypeError):
        pass
    raise ValueError(f"{path}: not a list of tracks of version {VERSION}; give another --out, or move the file away")


def report(written: Written, least_frames: int) -> str:
    """Say in words what became of a video."""
    entry = written.entry
    tracks, left_out = entry["tracks"], entry["left_out"]
    silhouettes = sum(len(track["frames"]) for track in tracks)
    lines = [
        f"{entry['video']}: {entry['frames']} frames, up to {entry['people_at_once']} people at once; "
        f"kept {len(tracks)} tracks ({silhouettes} silhouettes), "
        f"left out {len(left_out)} and {entry['flicker']} flickers"
    ]
    lines += [
        f"    {track['subject']}: frames {track['first']} to {track['last']}, {len(track['frames'])} silhouettes, "
        f"quality {track['quality']:.2f}"
        for track in tracks
    ]
    long = [track for track in left_out if track["frames"] >= least_frames]
    lines += [f"    left out {t['track']}: frames {t['first']} to {t['last']}, {t['reason']}" for t in long]
    if len(long) < len(left_out):
        lines.append(f"    left out {len(left_out) - len(long)} of fewer than {least_frames} frames: see {INDEX}")
    lines += [f"    NOTE  {note}" for note in entry["notes"]]
    lines += [f"    PROBLEM  {problem}" for problem in entry["problems"]]
    return "\n".join(lines)


def _write_silhouettes(folder: Path, track: Track) -> None:
    folder.mkdir()
    for frame, silhouette in zip(track.frames, track.silhouettes, strict=True):
        path = folder / f"{frame:06d}.png"
        if not cv2.imwrite(str(path), silhouette, _FAST_PNG):
            raise OSError(f"{path}: cannot be written; is the disk full?")


def _track_entry(track: Track) -> dict[str, Any]:
    return {
        "track": track.number,
        "first": track.first,
        "last": track.last,
        "quality": round(track.quality, 3),
        "end": track.end,
        "frames": track.frames.tolist(),
        "frame_quality": np.round(track.frame_quality, 2).tolist(),
        "boxes": track.boxes.tolist(),
    }


def _video_entry(
    video: VideoTracks, path: Path, name: str, status: str, tracks: list[dict[str, Any]], pictures: list[str]
) -> dict[str, Any]:
    info, summary = video.source.info, video.summary
    return {
        "video": str(path),
        "name": name,
        "status": status,
        "frames": info.frames,
        "fps": info.fps,
        "width": info.width,
        "height": info.height,
        "people_at_once": summary.at_once,
        "frames_with_people": summary.occupied,
        "flicker": summary.flicker,
        "problems": summary.remarks.problems,
        "notes": summary.remarks.notes,
        "pictures": pictures,
        "tracks": tracks,
        "left_out": [item._asdict() | {"track": item.number} for item in sorted(summary.left_out)],
    }


def _forget(out: Path, path: Path) -> None:
    """Delete what an earlier run wrote for a video."""
    entries = read_index(out)
    for entry in entries:
        if entry["video"] == str(path):
            for track in entry["tracks"]:
                shutil.rmtree(out / track["folder"], ignore_errors=True)
    _write_index(out, [entry for entry in entries if entry["video"] != str(path)])


def _write_index(out: Path, entries: list[dict[str, Any]]) -> None:
    aside = out / f".{INDEX}.partial"
    text = json.dumps({"version": VERSION, "videos": entries}, ensure_ascii=False, indent=1)
    aside.write_text(text + "\n", encoding="utf-8")
    os.replace(aside, out / INDEX)
