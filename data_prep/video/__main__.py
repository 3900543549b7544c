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
from pathlib import Path

from tqdm import tqdm

from data_prep.video.folder import VideoOptions, describe_unread, write_videos
from data_prep.video.names import list_videos
from data_prep.video.network import INPUTS
from data_prep.video.outputs import PICTURES, SILHOUETTES, report
from data_prep.video.quality import Limits


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = _parser().parse_args(arguments)
    options = VideoOptions(
        given.condition,
        given.view,
        given.masks,
        given.model,
        given.person_class,
        given.model_input,
        Limits(given.least_frames, given.least_height, given.least_quality),
    )
    try:
        listing = list_videos(given.videos, given.masks)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    root = given.videos if given.videos.is_dir() else given.videos.parent
    statuses = []
    for _, written in write_videos(listing, root, given.out, options):
        if isinstance(written, ValueError):
            statuses.append("failed")
            tqdm.write(f"PROBLEM  {written}")
        else:
            statuses.append(written.status)
            tqdm.write(report(written, given.least_frames))
    for text in describe_unread(listing, root):
        statuses.append("doubtful")
        print(f"PROBLEM  {text}")
    if any(status != "failed" for status in statuses):
        print(
            f"Look at {given.out / PICTURES}, then:\n"
            f"python -m data_prep.build silhouettes --raw={given.out / SILHOUETTES} --name=<your name for it>"
        )
    return 1 if "failed" in statuses else 2 if "doubtful" in statuses else 0


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
