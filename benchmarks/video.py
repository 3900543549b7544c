"""Quality of following people in drawn scenes, whose masks and identities are known, and speed in a real video.

    python -m benchmarks.video
    python -m benchmarks.video --video=vtest.avi

Scenes are synthetic walkers in front of a wall with a pattern. The table says, by scene: people; kept tracks;
found, the share of a person's frames, whole and touching nobody, that a kept track shows; IoU of the masks there (the
median); switches, from one person to another within a track; two, the kept silhouettes with a second person in them
(more than a fifth of that one); and what was remarked.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from data_prep.synthetic import SyntheticConfig, render_sequence
from data_prep.video.quality import Limits
from data_prep.video.run import Track, VideoTracks, open_source

FPS, FRAMES, HEIGHT, WIDTH = 25, 100, 240, 320
_TALL = 0.62  # of the renderer's size: people are about 75 pixels tall
_CLOTHES = ((40, 30, 200), (190, 60, 30), (30, 160, 40), (20, 20, 20), (200, 190, 60))  # BGR of the upper half
_TROUSERS = ((150, 80, 40), (30, 30, 30), (60, 60, 150), (200, 200, 200), (20, 60, 90))
_OTHER = 0.2  # of a person's pixels, in another's silhouette

Path2D = Callable[[int], tuple[float, float]]  # frame -> middle and feet, in pixels


@dataclass
class Scene:
    """A drawn video: paths of its people, frame -> (x, y of the feet), and what befalls the pictures."""

    paths: list[Path2D]
    noise: float = 4
    shadow: float = 1.0  # brightness where a person's shadow falls
    light: Callable[[int], float] = lambda frame: 1.0
    camera: Callable[[int], tuple[int, int]] = lambda frame: (0, 0)  # shift of the picture in pixels
    clothes: tuple = _CLOTHES
    frames: int = FRAMES
    pictures: list[np.ndarray] = field(default_factory=list)
    truth: list[np.ndarray] = field(
        default_factory=list
    )  # uint8 [h, w, people], 255 on a body, seen as by the first frame's camera

    def draw(self, seed: int = 0) -> "Scene":
        """Draw the pictures and the masks."""
        rng = np.random.default_rng(seed)
        walkers = [_walker(person) for person in range(1, len(self.paths) + 1)]
        wall = cv2.resize(rng.integers(70, 190, (36, 48, 3), dtype=np.uint8), (WIDTH + 400, HEIGHT + 60))
        for frame in range(self.frames):
            right, down = self.camera(frame)
            picture = wall[30 + down : 30 + down + HEIGHT, 200 + right : 200 + right + WIDTH].astype(np.float32)
            truth = np.zeros((HEIGHT, WIDTH, len(self.paths)), np.uint8)
            bodies = []
            for person, path in enumerate(self.paths):
                x, y = path(frame)
                still = path(max(frame - 1, 0)) == (x, y)
                body = walkers[person][0 if still else frame % len(walkers[person])]
                bodies.append(_placed(body, x - right, y - down))
                truth[..., person] = _placed(body, x - self.camera(0)[0], y - self.camera(0)[1])
            for person in np.argsort([path(frame)[1] for path in self.paths]):  # the nearer hides the farther
                mask = bodies[person] > 0
                if self.shadow < 1:
                    picture[_shadow(bodies[person]) & ~mask] *= self.shadow
                half = np.flatnonzero(mask.any(axis=1))
                upper = np.arange(HEIGHT)[:, None] < (half.mean() if len(half) else 0)
                picture[mask & upper] = self.clothes[person % len(self.clothes)]
                picture[mask & ~upper] = _TROUSERS[person % len(_TROUSERS)]
            picture = picture * self.light(frame) + rng.normal(0, self.noise, picture.shape)
            self.pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
            self.truth.append(truth)
        return self


def across(start: float, speed: float, feet: float) -> Path2D:
    """Walk straight: from x = start, speed in pixels a frame."""
    return lambda frame: (start + speed * frame, feet)


def pausing(start: float, speed: float, feet: float, first: int, last: int) -> Path2D:
    """Walk, stand from frame `first` to `last`, walk on."""
    return lambda frame: (start + speed * (min(frame, first) + max(frame - last, 0)), feet)


def scenes() -> dict[str, Scene]:
    """The scenes by name, not yet drawn."""
    one = [across(30, 2.6, 200)]
    two = [across(30, 2.6, 230), across(290, -2.6, 110)]
    shakes = np.random.default_rng(3).integers(-3, 4, (FRAMES, 2))
    return {
        "one": Scene(one),
        "two, apart": Scene(two),
        "three, apart": Scene([across(20, 2.0, 230), across(130, 1.9, 226), across(300, -2.6, 110)]),
        "crossing": Scene([across(20, 2.8, 200), across(300, -2.8, 194)]),
        "side by side": Scene([across(30, 2.4, 200), across(52, 2.4, 192)]),
        "meeting, turning back": Scene([_turning(30, 2.2, 200, 50), _turning(290, -2.2, 196, 50)]),
        "a pause": Scene([pausing(30, 3.0, 200, 25, 65)]),
        "stands most of the time": Scene([pausing(100, 3.0, 200, 15, 80)]),
        "shadows": Scene(two, shadow=0.7),
        "noise": Scene(two, noise=14),
        "light fades": Scene(two, light=lambda frame: 1 - 0.35 * frame / FRAMES),
        "flicker": Scene(two, light=lambda frame: 1.0 if frame % 2 else 0.85),
        "the camera shakes": Scene(two, camera=lambda frame: (int(shakes[frame, 0]), int(shakes[frame, 1]))),
        "the camera pans": Scene(two, camera=lambda frame: (2 * frame - 100, 0)),
        "clothes like the wall": Scene(one, clothes=((130, 130, 130),)),
    }


class Score(NamedTuple):
    """Tracks against the truth, as in the table."""

    tracks: int
    found: float
    overlap: float
    switches: int
    two: float


def score(tracks: list[Track], truth: list[np.ndarray]) -> Score:
    """Compare kept tracks with the drawn masks."""
    people = truth[0].shape[2]
    seen = np.zeros((len(truth), people), bool)
    overlaps, switches, two, silhouettes = [], 0, 0, 0
    for track in tracks:
        owners = []
        for frame, silhouette, box in zip(track.frames, track.silhouettes, track.boxes, strict=True):
            mask = _in_picture(silhouette, box)
            bodies = truth[frame - 1] > 0
            hits = np.array([np.count_nonzero(mask & bodies[..., p]) for p in range(people)])
            owner = int(hits.argmax())
            owners.append(owner)
            seen[frame - 1, owner] |= hits[owner] > 0
            shares = hits / np.maximum(bodies.sum(axis=(0, 1)), 1)
            two += int(np.count_nonzero(np.delete(shares, owner) > _OTHER) > 0)
            silhouettes += 1
            if alone(bodies, owner):
                overlaps.append(hits[owner] / np.count_nonzero(mask | bodies[..., owner]))
        switches += int(np.count_nonzero(np.diff(owners)))
    wanted = np.array([[alone(bodies > 0, p) for p in range(people)] for bodies in truth])
    return Score(
        len(tracks),
        float(seen[wanted].mean()) if wanted.any() else 0.0,
        float(np.median(overlaps)) if overlaps else 0.0,
        switches,
        two / max(silhouettes, 1),
    )


def alone(bodies: np.ndarray, person: int) -> bool:
    """Whether a person is within the picture and touches nobody."""
    body = bodies[..., person]
    inside = body.any() and not (body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any())
    wide = cv2.dilate(body.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return bool(inside and not (wide & np.delete(bodies, person, axis=2).any(axis=2)).any())


def write_video(path: Path, pictures: list[np.ndarray]) -> Path:
    """Write pictures as a video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, pictures[0].shape[1::-1])
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def follow(path: Path, limits: Limits) -> tuple[list[Track], VideoTracks]:
    """Follow the people of a video."""
    video = VideoTracks(path.stem, open_source(path), limits)
    return list(video.tracks(lambda: None)), video


def main(arguments: list[str] | None = None) -> int:
    """Print the table of the drawn scenes, or the speed on a video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", help="names of scenes; all without")
    parser.add_argument("--video", type=Path, help="measure speed and memory on this video")
    options = parser.parse_args(arguments)
    if options.video:
        began, cpu = time.perf_counter(), time.process_time()
        tracks, video = follow(options.video, Limits())
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        frames, info = video.summary.frames, video.source.info
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        lasting = sum(len(track.frames) >= 40 for track in tracks)
        print(
            f"{options.video.name}: {frames} frames of {info.width}x{info.height}, {len(tracks)} tracks, {lasting} "
            f"of 40 silhouettes or more; {60 * frames / seconds:.0f} frames a minute "
            f"({1000 * cpu / frames:.1f} ms of CPU a frame), {memory:.0f} MiB at most"
        )
        return 0
    print(f"{'scene':26}{'people':>7}{'tracks':>7}{'found':>7}{'IoU':>6}{'switches':>9}{'two':>6}  remarks")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.scenes or scenes():
            scene = scenes()[name]
            scene.draw()
            tracks, video = follow(write_video(Path(folder) / "scene.avi", scene.pictures), Limits(least_frames=15))
            result = score(tracks, scene.truth)
            remarks = video.summary.remarks
            print(
                f"{name:26}{len(scene.paths):7}{result.tracks:7}{result.found:7.0%}{result.overlap:6.2f}"
                f"{result.switches:9}{result.two:6.0%}  {'; '.join(remarks.problems + remarks.notes)}"
            )
    return 0


def _turning(start: float, speed: float, feet: float, when: int) -> Path2D:
    return lambda frame: (start + speed * (when - abs(when - frame)), feet)


def _walker(person: int) -> list[np.ndarray]:
    """Silhouettes of a walk, cropped across and to the height that all of them share."""
    frames = render_sequence(SyntheticConfig(subjects=person), person, "nm-01", "090")
    rows = np.flatnonzero(frames.any(axis=(0, 2)))
    crops = []
    for frame in frames[4:-4]:
        columns = np.flatnonzero(frame.any(axis=0))
        crop = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        crops.append(cv2.resize(crop, None, fx=_TALL, fy=_TALL, interpolation=cv2.INTER_AREA))
    return [np.where(crop > 127, np.uint8(255), np.uint8(0)) for crop in crops]


def _placed(body: np.ndarray, x: float, feet: float) -> np.ndarray:
    """A body in the picture, its middle at x, its lowest row at `feet`; what is outside is lost."""
    wide = np.zeros((HEIGHT + 400, WIDTH + 400), np.uint8)
    top, left = round(feet) - len(body) + 201, round(x - body.shape[1] / 2) + 200
    if 0 <= top <= len(wide) - len(body) and 0 <= left <= wide.shape[1] - body.shape[1]:
        wide[top : top + len(body), left : left + body.shape[1]] = body
    return wide[200 : 200 + HEIGHT, 200 : 200 + WIDTH]


def _shadow(body: np.ndarray) -> np.ndarray:
    """The shadow of a body on the floor: flat, to the right of the feet."""
    rows = np.flatnonzero(body.any(axis=1))
    if not len(rows):
        return np.zeros(body.shape, bool)
    feet, height = rows[-1], rows[-1] - rows[0]
    matrix = np.array([[1, -0.6, 0.6 * feet], [0, 0.15, feet * 0.85 + height * 0.02]], np.float32)
    return cv2.warpAffine(body, matrix, body.shape[::-1]) > 127


def _in_picture(silhouette: np.ndarray, box: np.ndarray) -> np.ndarray:
    """A track's silhouette back in its picture."""
    left, top, width, height = box
    rows = np.flatnonzero(silhouette.any(axis=1))
    columns = np.flatnonzero(silhouette.any(axis=0))
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + height, left : left + width] = (
        silhouette[rows[0] : rows[0] + height, columns[0] : columns[0] + width] > 0
    )
    return mask


if __name__ == "__main__":
    sys.exit(main())
