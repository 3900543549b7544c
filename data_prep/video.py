"""Silhouettes from your own videos, in the folders that `python -m data_prep.build silhouettes` takes.

    python -m data_prep.video <file or folder of videos> --out=<dir>
    python -m data_prep.video <file or folder of mask videos> --out=<dir> --masks

Whose video it is tells its name: <subject>/<condition>/<view>.mp4 or <subject>-<condition>-<view>.mp4; what is missing
is taken from --condition and --view. Every video also gets a strip of pictures beside <dir>, to look at.

The camera must stand still, the light must not change, and one person at a time may walk through the picture: the
largest upright thing that moves is taken for the person. Several people, moving cameras, people who stand still all
the time, and clothes of the background's colour are beyond this: make masks with a segmentation network, and give
them as videos with --masks or as pictures in <subject>/<condition>/<view>/.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.align import align_silhouette
from gil_jax.data.check import SHORT

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v")
_LEARNING_FRAMES = 400  # of a video, from which the background is learned
_LEAST_AREA = 0.002  # of the picture, for a person
_SLIMMEST, _WIDEST = 0.12, 1.1  # width of a person over the height: from behind; a long stride from the side
_FULLNESS = (0.2, 0.95)  # share of its box that a body fills


class Walk(NamedTuple):
    """What became of a video. labels: (subject, condition, view); frames: of the video; kept: those with a person."""

    labels: tuple[str, str, str]
    frames: int
    kept: int


def segment(mask: np.ndarray) -> np.ndarray | None:
    """The person in a raw mask: uint8 [h, w] of 0 and 255, or None if nothing in it looks like one.

    Takes the largest connected component that is large, upright and full enough; one that is cut by the left or right
    edge of the picture is half a person, and none.
    """
    mask = cv2.medianBlur(mask, 5)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, components, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    best = None
    for component in range(1, len(stats)):
        left, _, width, height, area = stats[component]
        person_like = (
            area >= _LEAST_AREA * mask.size
            and _SLIMMEST <= width / height <= _WIDEST
            and _FULLNESS[0] <= area / (width * height) <= _FULLNESS[1]
            and left > 0
            and left + width < mask.shape[1]
        )
        if person_like and (best is None or area > stats[best][4]):
            best = component
    return None if best is None else np.where(components == best, np.uint8(255), np.uint8(0))


def silhouettes_of(path: str, masks: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """(picture uint8 [h, w, 3], silhouette uint8 [h, w] or None) for every frame of a video.

    The background is learned in a first pass (Zivkovic, ICPR 2004), the person is what differs from it in a second.
    masks: the video shows white masks on black already. Raises ValueError for a file that is no video.
    """
    if masks:
        for frame in _frames(path):
            yield frame, segment(np.where(frame.max(axis=2) > 127, np.uint8(255), np.uint8(0)))
        return
    learner = cv2.createBackgroundSubtractorMOG2(history=_LEARNING_FRAMES, varThreshold=30, detectShadows=True)
    learner.setBackgroundRatio(0.6)  # what is seen at a place most of the time; a slow walker stays for a while
    total = sum(1 for _ in _frames(path))
    every = max(total // _LEARNING_FRAMES, 1)
    for index, frame in enumerate(_frames(path)):
        if index % every == 0:  # all frames weigh the same, the first as much as the last
            learner.apply(frame, learningRate=1 / (index // every + 1))
    for frame in _frames(path):
        mask = learner.apply(frame, learningRate=0)
        yield frame, segment(np.where(mask == 255, np.uint8(255), np.uint8(0)))  # shadows are 127


def _frames(path: str) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(path)
    try:
        there, frame = video.read()
        if not there:
            raise ValueError(f"{path}: not a video that OpenCV can read")
        while there:
            yield frame
            there, frame = video.read()
    finally:
        video.release()


def labels_of(path: Path, root: Path, condition: str, view: str) -> tuple[str, str, str]:
    """(subject, condition, view) from the name of a video, or of the folders between it and `root`."""
    names = [*path.relative_to(root).parent.parts, path.stem]
    if len(names) == 1 and len(said := path.stem.split("-")) >= 3:
        return said[0], "-".join(said[1:-1]), said[-1]
    names += [condition, view][len(names) - 1 :]
    return tuple(names[-3:])


def write_walk(path: Path, labels: tuple[str, str, str], out: Path, strips: Path, masks: bool = False) -> Walk:
    """Write the silhouettes of a video as PNG, whole or not at all, and its strip. Raises ValueError if it is none."""
    folder = out.joinpath(*labels)
    aside = out / f".{'-'.join(labels)}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    frames, kept = 0, []
    try:
        for picture, silhouette in silhouettes_of(str(path), masks):
            frames += 1
            if silhouette is None:
                continue
            kept.append(frames)
            if not cv2.imwrite(str(aside / f"{frames:05d}.png"), silhouette):
                raise OSError(f"{aside}: can't be written; is the disk full?")
            cv2.imwrite(str(aside / f".{frames:05d}.jpg"), _thumbnail(picture))
        strips.mkdir(parents=True, exist_ok=True)
        if kept:
            cv2.imwrite(str(strips / f"{'-'.join(labels)}.png"), _strip(aside, kept))
            for thumbnail in aside.glob(".*.jpg"):
                thumbnail.unlink()
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Walk(labels, frames, len(kept))


def _thumbnail(picture: np.ndarray, height: int = 96) -> np.ndarray:
    width = max(picture.shape[1] * height // picture.shape[0], 1)
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _strip(folder: Path, kept: list[int], columns: int = 10) -> np.ndarray:
    """Frames above, what was cut out of them below, and the aligned silhouettes."""
    rows = [[], [], []]
    for index in np.unique(np.linspace(0, len(kept) - 1, columns).astype(int)):
        silhouette = cv2.imread(str(folder / f"{kept[index]:05d}.png"), cv2.IMREAD_GRAYSCALE)
        picture = cv2.imread(str(folder / f".{kept[index]:05d}.jpg"))
        aligned = align_silhouette(silhouette, 64)
        aligned = np.zeros((64, 64), np.uint8) if aligned is None else aligned
        side = max(picture.shape[1] - 64, 0)
        aligned = np.pad(aligned, ((0, 0), (side // 2, side - side // 2)))[:, : picture.shape[1]]
        rows[0].append(picture)
        rows[1].append(cv2.cvtColor(_thumbnail(silhouette), cv2.COLOR_GRAY2BGR))
        rows[2].append(cv2.cvtColor(aligned, cv2.COLOR_GRAY2BGR))
    return np.vstack([np.hstack(row) for row in rows])


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 1 where a video gave nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a video, or a folder of videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for <subject>/<condition>/<view>/<frame>.png")
    parser.add_argument("--condition", default="nm-01", help="where a name does not tell it")
    parser.add_argument("--view", default="000", help="where a name does not tell it")
    parser.add_argument("--masks", action="store_true", help="the videos show white masks on black already")
    options = parser.parse_args(arguments)
    root = options.videos if options.videos.is_dir() else options.videos.parent
    paths = (
        sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
        if root == options.videos
        else [options.videos]
    )
    strips = options.out.with_name(f"{options.out.name}_strips")
    taken, failures = {}, 0
    for path in tqdm(paths, unit="video"):
        labels = labels_of(path, root, options.condition, options.view)
        try:
            if labels in taken:
                raise ValueError(f"{path}: {'/'.join(labels)} is {taken[labels]} already: rename one of them")
            taken[labels] = path
            walk = write_walk(path, labels, options.out, strips, options.masks)
        except ValueError as error:
            failures += 1
            tqdm.write(f"PROBLEM  {error}")
            continue
        few = "" if walk.kept >= SHORT else f"  PROBLEM  fewer than {SHORT}: see the rules in --help"
        failures += bool(few)
        tqdm.write(f"{'/'.join(labels)}: a person in {walk.kept} of {walk.frames} frames{few}")
    if not paths or not options.videos.exists():
        print(f"{options.videos}: no video there ({', '.join(SUFFIXES)})", file=sys.stderr)
        return 1
    print(
        f"Look at the strips in {strips}, then:\n"
        f"python -m data_prep.build silhouettes --raw={options.out} --name=<your name for it>"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
