"""The videos of a folder, one after the other, with a progress bar."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from data_prep.video.names import SUFFIXES, Listing, labels_of
from data_prep.video.outputs import Written, write_video
from data_prep.video.quality import Limits
from data_prep.video.run import VideoTracks, open_source

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total_fmt} frames [{elapsed}<{remaining}, {rate_fmt}]"


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class VideoOptions:
    """How videos are followed.

    condition, view: where a name does not give them; masks, model, person_class, model_input: as in `tracks_of_video`;
    limits: of what is kept; pictures: draw what was found.
    """

    condition: str = "nm-01"
    view: str = "000"
    masks: bool = False
    model: Path | None = None
    person_class: int = 1
    model_input: str = "imagenet"
    limits: Limits = DEFAULT_LIMITS
    pictures: bool = True


def write_videos(
    listing: Listing, root: Path, out: Path, options: VideoOptions
) -> Iterator[tuple[Path, Written | ValueError]]:
    """Follow the people of every video and write their silhouettes below `out`, as `write_video` does.

    root: the folder that the labels are read from. Yields each video with what was written, or with the error of one
    that can't be read or has the labels of another.
    """
    taken: dict[tuple[str, ...], Path] = {}
    for number, path in enumerate(listing.videos, start=1):
        labels = labels_of(path, root, options.condition, options.view)
        try:
            if labels[:3] in taken:
                raise ValueError(f"{path}: {'/'.join(labels[:3])} is {taken[labels[:3]]} already: rename one of them")
            taken[labels[:3]] = path
            source = open_source(path, options.masks, options.model, options.person_class, options.model_input)
            step = 1 / (source.passes + options.pictures)  # the last pass is for the pictures
            with tqdm(
                total=source.info.frames,
                desc=f"{number}/{len(listing.videos)} {path.name}",
                unit="frame",
                bar_format=_BAR,
                mininterval=0.5,
            ) as bar:
                video = VideoTracks(labels.subject, source, options.limits)
                written = write_video(video, path, labels, out, partial(_advance, bar, step), options.pictures)
            yield path, written
        except ValueError as error:
            yield path, error


def describe_unread(listing: Listing, root: Path) -> list[str]:
    """Say which files of a folder are no videos here, a sentence for every suffix."""
    said = []
    for suffix, paths in listing.unread.items():
        names = ", ".join(str(path.relative_to(root)) for path in paths[:3])
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        said.append(f"not read: {names}{more}: {suffix} is no video here (videos are {', '.join(SUFFIXES)})")
    return said


def _advance(bar: tqdm, step: float) -> None:
    """Move a progress bar by a part of a frame, not beyond its end."""
    bar.update(min(step, bar.total - bar.n))
