"""Silhouettes of every person in your videos.

    python -m data_prep.video <video or folder of videos> --out=<dir>
    python -m data_prep.video <video or folder of masks> --out=<dir> --masks
    python -m data_prep.video <video or folder of videos> --out=<dir> --model=<network>.onnx

In <dir> are written: silhouettes/<subject>/<condition>/<view>/<frame>.png, for `python -m data_prep.build silhouettes`;
pictures/, the videos again with what was found, and sheets of the silhouettes; tracks.json. A video of several people
gives <subject>-<track>.

A video's name gives its labels: <subject>-<condition>-<view>.mp4 anywhere, or <subject>/<condition>/<view>.mp4; what is
missing is taken from --condition and --view.

Without masks or a model the camera must stand still (shaking is steadied). Exit status: 0 where every video gave
tracks, 2 where some of it is doubtful (PROBLEM), 1 where a video gave none or could not be read.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data_prep.video.names import SUFFIXES, labels_of, list_videos
from data_prep.video.network import INPUTS
from data_prep.video.outputs import PICTURES, SILHOUETTES, report, write_video
from data_prep.video.quality import Limits
from data_prep.video.run import VideoTracks, open_source

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} frames [{elapsed}<{remaining}, {rate_fmt}]"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    limits = Limits(options.least_frames, options.least_height, options.least_quality)
    try:
        listing = list_videos(options.videos, options.masks)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    root = options.videos if options.videos.is_dir() else options.videos.parent
    taken: dict[tuple[str, ...], Path] = {}
    statuses = []
    for number, path in enumerate(listing.videos, start=1):
        labels = labels_of(path, root, options.condition, options.view)
        try:
            if labels[:3] in taken:
                raise ValueError(f"{path}: {'/'.join(labels[:3])} is {taken[labels[:3]]} already: rename one of them")
            taken[labels[:3]] = path
            source = open_source(path, options.masks, options.model, options.person_class, options.model_input)
            step = 1 / (source.passes + 1)  # the last pass is for the pictures
            with tqdm(
                total=source.info.frames,
                desc=f"{number}/{len(listing.videos)} {path.name}",
                unit="frame",
                bar_format=_BAR,
                mininterval=0.5,
            ) as bar:
                video = VideoTracks(labels.subject, source, limits)
                written = write_video(video, path, labels, options.out, partial(_advance, bar, step))
            statuses.append(written.status)
            tqdm.write(report(written, options.least_frames))
        except ValueError as error:
            statuses.append("failed")
            tqdm.write(f"PROBLEM  {error}")
    for suffix, paths in listing.unread.items():
        statuses.append("doubtful")
        names = ", ".join(str(path.relative_to(root)) for path in paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        print(f"PROBLEM  not read: {names}{more}: {suffix} is no video here (videos are {', '.join(SUFFIXES)})")
    if any(status != "failed" for status in statuses):
        print(
            f"Look at {options.out / PICTURES}, then:\n"
            f"python -m data_prep.build silhouettes --raw={options.out / SILHOUETTES} --name=<your name for it>"
        )
    return 1 if "failed" in statuses else 2 if "doubtful" in statuses else 0


def _advance(bar: tqdm, step: float) -> None:
    """Move a progress bar by a part of a frame, not beyond its end."""
    bar.update(min(step, bar.total - bar.n))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m data_prep.video", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    limits = Limits()
    add = parser.add_argument
    add("videos", type=Path, help="a video, or a folder with videos in it or below")
    add("--out", type=Path, required=True, help="folder to write to")
    add("--condition", default="nm-01", help="where a name does not give it (nm-01)")
    add("--view", default="000", help="where a name does not give it (000)")
    add(
        "--masks",
        action="store_true",
        help="videos, or folders of PNG, show masks: white, or a colour a person, on black",
    )
    add("--model", type=Path, help="a segmentation network, an ONNX file of your own")
    add("--person_class", type=int, default=1, help="class or label of a person in the model's output (1)")
    add("--model_input", default="imagenet", help=f"scaling of the model's input: {', '.join(INPUTS)} (imagenet)")
    add("--least_frames", type=int, default=limits.least_frames, help=f"good frames of a track ({limits.least_frames})")
    add("--least_height", type=int, default=limits.least_height, help=f"pixels of a person ({limits.least_height})")
    add("--least_quality", type=float, default=limits.least_quality, help=f"of a track ({limits.least_quality})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
