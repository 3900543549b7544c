"""Pictures to look at: the video again with what was found in it, and sheets of the silhouettes."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from jaxtyping import UInt8

from data_prep.video.blobs import Box
from data_prep.video.run import SeenFrame, Verdict
from data_prep.video.sources import Tick
from data_prep.video.steady import take_back
from gil_jax.lettering import SIZE, caption, measure, shorten_to, write

KEPT, UNSURE, LEFT_OUT, TOUCHING = (80, 220, 80), (0, 170, 255), (80, 80, 255), (255, 160, 60)  # BGR
_LEGEND = (
    ("kept: track, quality", KEPT),
    ("frame left out", UNSURE),
    ("track left out", LEFT_OUT),
    ("people touch", TOUCHING),
)
_LEGEND_WIDTH = 560  # pixels; a narrower picture is enlarged
_BAR = 26  # pixels of the caption under a frame
_TILE = (128, 96)  # height and width of a silhouette in a sheet
_COLUMNS, _ROWS = 14, 5  # silhouettes of a track in a sheet; tracks in a sheet
_MARGIN = 6  # pixels around the person, in the pictures of a sheet
_INK, _SMALL = (235, 235, 235), 11  # colour and pixels of text


def draw_video(
    frames: Iterator[UInt8[np.ndarray, "h w 3"]],
    spool: BinaryIO,
    verdicts: dict[int, Verdict],
    fps: float,
    name: str,
    folder: Path,
    tick: Tick,
) -> list[Path]:
    """Write <name>.mp4, the video with outlines and words, and <name>_1.png, ..., sheets of the kept tracks.

    spool: the SeenFrame of every frame, pickled. Returns the files. Raises OSError where a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sheets = _Sheets(folder, name, verdicts)
    path = folder / f"{name}.mp4"
    writer = None
    try:
        for index, frame in enumerate(frames):
            try:
                seen: SeenFrame = pickle.load(spool)
            except EOFError:
                break
            tick()
            frame = frame if seen.matrix is None else take_back(frame, seen.matrix)
            sheets.add(index, frame, seen)
            drawn = _draw_frame(frame, index, seen, verdicts, fps)
            if writer is None:
                size = (drawn.shape[1], drawn.shape[0])
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise OSError(f"{path}: cannot be written; is the disk full, or the folder read-only?")
            writer.write(drawn)
    finally:
        if writer is not None:
            writer.release()
    return [path, *sheets.close()]


def _draw_frame(
    frame: np.ndarray, index: int, seen: SeenFrame, verdicts: dict[int, Verdict], fps: float
) -> UInt8[np.ndarray, "h w 3"]:
    scale = max(_LEGEND_WIDTH / frame.shape[1], 1.0)
    picture = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) if scale > 1 else frame.copy()
    labels = []
    for uid, touches, observation in seen.seen:
        verdict = verdicts.get(uid)
        if touches:
            colour, words = TOUCHING, ""
        elif verdict is None:
            continue  # flicker
        elif verdict.reason:
            colour, words = LEFT_OUT, verdict.reason.partition(":")[0]
        else:
            kept = index in verdict.kept
            colour, words = (KEPT if kept else UNSURE), f"{verdict.number}  {verdict.score:.2f}"
        box = observation.box
        outlines, _ = cv2.findContours(observation.crop, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        moved = [np.rint((outline + np.array([box.left, box.top])) * scale).astype(np.int32) for outline in outlines]
        cv2.drawContours(picture, moved, -1, colour, 1, cv2.LINE_AA)
        labels.append((words, (round(box.left * scale), max(round(box.top * scale) - 16, 0)), colour))
    for words, place, colour in labels:
        write(picture, words, place, SIZE, colour, shadow=True)
    bar = np.full((_BAR, picture.shape[1], 3), 30, np.uint8)
    minutes, seconds = divmod(index / fps, 60)
    left = 6 + write(bar, f"frame {index + 1}  {int(minutes)}:{seconds:04.1f}", (6, 5), SIZE, _INK) + 12
    for words, colour in _LEGEND if seen.usable else (("frame not used: the light or the camera changed", UNSURE),):
        left += write(bar, words, (left, 6), _SMALL, colour) + 10
    drawn = np.vstack([picture, bar])
    return drawn[: drawn.shape[0] // 2 * 2, : drawn.shape[1] // 2 * 2]


class _Sheets:
    """Sheets of tracks: for each a row of pictures with the outline, and a row of silhouettes."""

    def __init__(self, folder: Path, name: str, verdicts: dict[int, Verdict]):
        self._folder, self._name = folder, name
        self._verdicts = {uid: verdict for uid, verdict in verdicts.items() if not verdict.reason}
        self._chosen = {uid: _spread(verdict.kept) for uid, verdict in self._verdicts.items()}
        self._tiles: dict[int, list[np.ndarray]] = {}
        self._rows: list[np.ndarray] = []
        self.files: list[Path] = []

    def add(self, index: int, frame: np.ndarray, seen: SeenFrame) -> None:
        """Take the tiles of a frame."""
        for uid, _, observation in seen.seen:
            chosen = self._chosen.get(uid)
            if chosen is None or index not in chosen:
                continue
            tiles = self._tiles.setdefault(uid, [])
            tiles.append(_tile(frame, observation.box, observation.crop, index + 1))
            if len(tiles) == len(chosen):
                self._rows.append(_row(f"{self._name}-{self._verdicts[uid].number}", self._verdicts[uid], tiles))
                del self._tiles[uid]
                if len(self._rows) == _ROWS:
                    self._flush()

    def close(self) -> list[Path]:
        """Write the last sheet; returns the files."""
        if self._rows:
            self._flush()
        return self.files

    def _flush(self) -> None:
        number = len(self.files) + 1
        path = self._folder / f"{self._name}_{number}.png"
        head = caption(
            f"{self._name}: kept tracks, sheet {number}",
            "A track is one person followed through the video. Its upper row shows the person with the outline found, "
            f"its lower row the silhouettes. Columns are frames, numbered as in the video: {_COLUMNS} of each track, "
            "evenly spread, or all it has. Quality is from 0 to 1. Good: the outline goes around one complete person, "
            "the same one in all pictures.",
            self._rows[0].shape[1],
        )
        sheet = np.vstack([cv2.cvtColor(head, cv2.COLOR_GRAY2BGR), *self._rows])
        if not cv2.imwrite(str(path), sheet):
            raise OSError(f"{path}: cannot be written; is the disk full, or the folder read-only?")
        self.files.append(path)
        self._rows = []


def _spread(kept: frozenset[int]) -> frozenset[int]:
    frames = sorted(kept)
    return frozenset(frames[i] for i in np.linspace(0, len(frames) - 1, min(_COLUMNS, len(frames))).astype(int))


def _row(name: str, verdict: Verdict, tiles: list[np.ndarray]) -> np.ndarray:
    row = np.hstack([*tiles, *[np.zeros_like(tiles[0])] * (_COLUMNS - len(tiles))])
    head = np.full((22, row.shape[1], 3), 60, np.uint8)
    first, last = min(verdict.kept) + 1, max(verdict.kept) + 1
    words = f": {len(verdict.kept)} silhouettes of frames {first} to {last}, quality {verdict.score:.2f}"
    words = f"{words}; here {len(tiles)}"
    write(head, shorten_to(name, row.shape[1] - 12 - measure(words, 13), 13) + words, (6, 3), 13, _INK)
    return np.vstack([head, row])


def _tile(frame: np.ndarray, box: Box, crop: np.ndarray, number: int) -> np.ndarray:
    """The picture of a person with the outline, above the silhouette."""
    height, width = _TILE
    padded = np.pad(crop, _MARGIN)
    rows = np.clip(np.arange(box.top - _MARGIN, box.bottom + _MARGIN), 0, len(frame) - 1)
    columns = np.clip(np.arange(box.left - _MARGIN, box.right + _MARGIN), 0, frame.shape[1] - 1)
    view = frame[rows[:, None], columns]
    scale = min(height / view.shape[0], width / view.shape[1])
    size = (max(round(view.shape[1] * scale), 1), max(round(view.shape[0] * scale), 1))
    mask = cv2.resize(padded, size, interpolation=cv2.INTER_NEAREST)
    picture = cv2.resize(view, size, interpolation=cv2.INTER_LINEAR)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    picture = np.ascontiguousarray(picture)
    cv2.drawContours(picture, outlines, -1, KEPT, 1)
    tile = np.zeros((2, height, width, 3), np.uint8)
    left = (width - size[0]) // 2
    tile[0, height - size[1] :, left : left + size[0]] = picture
    tile[1, height - size[1] :, left : left + size[0]] = mask[..., None]
    tile = tile.reshape(2 * height, width, 3)
    write(tile, str(number), (2, 0), _SMALL, (0, 220, 255), shadow=True)
    return tile
