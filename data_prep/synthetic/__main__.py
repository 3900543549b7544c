"""Draw synthetic walkers, and pictures to look at.

python -m data_prep.synthetic --out=walkers --subjects=20 --sheet=walkers.png --strip=walk.gif
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from data_prep.synthetic.dataset import FRAMES_PER_SECOND, SyntheticConfig, render_sequence, write_walkers
from gil_jax.errors import run_command


def _cropped(frame: UInt8[np.ndarray, "h w"], height: int = 172, width: int = 104) -> UInt8[np.ndarray, "h2 w2"]:
    """Crop the picture to [height, width] around the walker."""
    x, y, w, h = cv2.boundingRect(frame)
    y, x = y + (h + height) // 2, x + (w + width) // 2  # the far corner, in a picture with a border of that size
    return np.pad(frame, ((height, height), (width, width)))[y : y + height, x : x + width]


def _one_of_each_kind(conditions: tuple[str, ...]) -> list[str]:
    first = {}
    for condition in conditions:
        first.setdefault(condition[:2], condition)
    return list(first.values())


def contact_sheet(config: SyntheticConfig, path: str | os.PathLike, people: int = 3) -> None:
    """Draw one picture of the first people: a row for each kind of condition, a column for each view."""
    rows = []
    for subject in range(1, min(people, config.subjects) + 1):
        for condition in _one_of_each_kind(config.conditions):
            sequences = [render_sequence(config, subject, condition, view) for view in config.views]
            row = np.hstack([_cropped(frames[len(frames) // 2]) for frames in sequences])
            cv2.putText(row, f"{subject:03d} {condition}", (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 160, 1, cv2.LINE_AA)
            rows.append(row)
    _save(path, cv2.imwrite, np.vstack(rows))


def animated_strip(config: SyntheticConfig, path: str | os.PathLike, s: int = 27) -> None:
    """Draw a moving picture (.gif, .png or .webp) of s frames: a person for each kind of condition, views across."""
    config = replace(config, frames=(s, s))
    clips = [
        [render_sequence(config, min(row, config.subjects), condition, view) for view in config.views[::2]]
        for row, condition in enumerate(_one_of_each_kind(config.conditions), 1)
    ]
    strip = cv2.Animation()
    strip.frames = [
        cv2.cvtColor(np.vstack([np.hstack([_cropped(clip[i]) for clip in row]) for row in clips]), cv2.COLOR_GRAY2BGR)
        for i in range(s)
    ]
    strip.durations = [1000 // FRAMES_PER_SECOND] * s
    _save(path, partial(cv2.imwriteanimation, params=[cv2.IMWRITE_GIF_DITHER, -1]), strip)


def _save(path: str | os.PathLike, write: Callable[[str, Any], bool], picture: Any) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        done = write(str(path), picture)
    except cv2.error as error:
        raise ValueError(
            f"{path}: OpenCV does not know this kind of picture; use .png for a sheet, .gif for a strip"
        ) from error
    if not done:
        raise OSError(f"{path} could not be written: is the folder writable?")


def _parser() -> argparse.ArgumentParser:
    default = SyntheticConfig()
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.synthetic",
        description="Make silhouettes of synthetic walkers in CASIA-B's raw layout. A run that was stopped goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--out", type=Path, help="folder to write <subject>/<condition>/<view>/*.png into")
    parser.add_argument("--subjects", type=int, default=default.subjects, help="how many people, numbered from 001")
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed, other people")
    parser.add_argument(
        "--conditions", nargs="+", default=default.conditions, metavar="NM-01", help="nm-, bg-, cl- + number"
    )
    parser.add_argument("--views", nargs="+", default=default.views, metavar="000", help="camera angles in degrees")
    parser.add_argument("--frames", nargs=2, type=int, default=default.frames, metavar=("MIN", "MAX"), help="lengths")
    parser.add_argument("--processes", type=int, help="how many processes (default: all cores)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet, e.g. walkers.png")
    parser.add_argument("--strip", type=Path, help="also write a moving picture, e.g. walk.gif")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if not (args.out or args.sheet or args.strip):
        parser.error("nothing to do: give --out=<folder>, --sheet=<png> or --strip=<gif>")

    def run() -> None:
        config = SyntheticConfig(
            args.subjects, args.seed, tuple(args.conditions), tuple(args.views), tuple(args.frames)
        )
        if args.sheet:
            contact_sheet(config, args.sheet)
        if args.strip:
            animated_strip(config, args.strip)
        if args.out:
            done = write_walkers(config, args.out, args.processes, progress=not args.quiet)
            print(
                f"{args.out}: {done.subjects} people; wrote {done.sequences_written} sequences,"
                f" {done.frames_written} frames in {done.seconds:.1f} s; found {done.sequences_found} already there"
            )

    try:
        return run_command(run)
    except BrokenProcessPool:
        print("error: a process was killed (out of memory?); the same command goes on from here", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
