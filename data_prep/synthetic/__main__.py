"""Draw synthetic walkers, and pictures to look at.

python -m data_prep.synthetic --out=walkers --subjects=20 --sheet=walkers.png --strip=walk.gif
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_prep.synthetic.dataset import FRAMES_PER_SECOND, SyntheticConfig, render_sequence, write_walkers
from gil_jax.errors import run_command
from gil_jax.lettering import MUTED, PAPER, caption, measure, shorten_to, write

_KINDS = "nm normal, bg with a bag, cl in a coat"
LABEL_HEIGHT = 14  # pixels above each row of the sheet, so that no head hides the label


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
    rows, shown = [], min(people, config.subjects)
    for subject in range(1, shown + 1):
        for condition in _one_of_each_kind(config.conditions):
            sequences = [render_sequence(config, subject, condition, view) for view in config.views]
            row = np.hstack([_cropped(frames[len(frames) // 2]) for frames in sequences])
            row = np.pad(row, [(LABEL_HEIGHT, 0), *[(0, 0)] * (row.ndim - 1)])
            write(row, f"{subject:03d} {condition}", (4, 2), colour=MUTED)
            rows.append(row)
    text = (
        f"A row is a walk: person and condition ({_KINDS}); a column is a camera, at this angle in degrees "
        "from the front. Each picture is the middle frame of its sequence, so the views show other moments of the step."
    )
    _save(path, _captioned(np.vstack(rows), config.views, f"{_people(shown, config)}, by view", text))


def animated_strip(config: SyntheticConfig, path: str | os.PathLike, s: int = 27) -> None:
    """Draw a moving picture (.gif, .png or .webp) of s frames: a person for each kind of condition, views across."""
    config = replace(config, frames=(s, s))
    views = config.views[::2]
    kinds = list(enumerate(_one_of_each_kind(config.conditions), 1))
    subjects = [min(number, config.subjects) for number, _ in kinds]
    clips = [
        [render_sequence(config, subject, condition, view) for view in views]
        for subject, (_, condition) in zip(subjects, kinds, strict=True)
    ]
    labels = [f"{subject:03d} {condition}" for subject, (_, condition) in zip(subjects, kinds, strict=True)]
    text = f"A row is a walk: person and condition ({_KINDS}); a column is a camera, at this angle in degrees."
    pictures = []
    for i in range(s):
        rows = [np.hstack([_cropped(clip[i]) for clip in row]) for row in clips]
        for row, label in zip(rows, labels, strict=True):
            write(row, label, (4, 2), colour=MUTED)
        pictures.append(_captioned(np.vstack(rows), views, f"{_people(len(set(subjects)), config)}, walking", text))
    _save(path, *pictures)


def _people(shown: int, config: SyntheticConfig) -> str:
    return f"Synthetic walkers: {shown} people of seed {config.seed}"


def _captioned(
    rows: UInt8[np.ndarray, "h w"], views: Sequence[str], title: str, text: str
) -> UInt8[np.ndarray, "h2 w"]:
    """Put the names of the views above their columns, and a caption on top."""
    heads = np.full((20, rows.shape[1]), PAPER, np.uint8)
    width = rows.shape[1] // len(views)
    for column, view in enumerate(views):
        short = shorten_to(view, width)
        write(heads, short, (column * width + (width - measure(short)) // 2, 3))
    return np.vstack([caption(title, text, rows.shape[1]), heads, rows])


def _save(path: str | os.PathLike, *frames: UInt8[np.ndarray, "h w"]) -> None:
    """Write a picture, or a moving one of several frames. Raises ValueError for another kind of file, and OSError."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, frames)
    moving: dict[str, Any] = {
        "save_all": True,
        "append_images": others,
        "duration": 1000 // FRAMES_PER_SECOND,
        "loop": 0,
    }
    try:
        first.save(path, **moving if others else {})
    except ValueError as error:
        raise ValueError(f"{path}: give .png for a sheet, and .gif, .png or .webp for a strip ({error})") from error


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
