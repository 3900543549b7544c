"""Sequences of synthetic walkers: drawn one by one, and written as a data set that is whole or goes on."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from data_prep.synthetic.body import hips_above_floor, pose, walk_speed
from data_prep.synthetic.camera import camera_of, draw, outlines
from data_prep.synthetic.traits import KINDS, Walk, condition_numbers, draw_walk
from gil_jax.data.files import flush_file_system, locked, write_atomically
from gil_jax.processes import available_cores

FRAMES_PER_SECOND = 25
CONDITIONS = (*(f"nm-{i:02d}" for i in range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02")
VIEWS = tuple(f"{view:03d}" for view in range(0, 181, 18))

NOTE, SCRATCH = ".walkers.json", ".partial"  # in the folder written to: its settings, and what is not whole yet
FLUSHED_FRAMES = 1000  # written between two flushes of the disk: what a power cut costs at most, per process
FAST_PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)  # two thirds of the time of OpenCV's default


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of the walkers. subjects: number of people, numbered from 001; frames: shortest and longest sequence.

    A condition is "nm-", "bg-" or "cl-" and two digits; a view is the camera's angle in degrees, "000" in front of the
    walker, "180" behind. Subject k is a pure function of (seed, k): more subjects never change the first ones.
    Raises ValueError that names the field.
    """

    subjects: int = 60
    seed: int = 0
    conditions: tuple[str, ...] = CONDITIONS
    views: tuple[str, ...] = VIEWS
    frames: tuple[int, int] = (24, 40)

    def __post_init__(self):
        if self.subjects < 1:
            raise ValueError(f"subjects={self.subjects}: ask for at least one")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: choose a seed of at least 0")
        if not 1 <= self.frames[0] <= self.frames[1]:
            raise ValueError(f"frames={self.frames}: give the shortest and the longest length, e.g. (24, 40)")
        for condition in self.conditions:
            if not re.fullmatch(f"({'|'.join(KINDS)})-[0-9]{{2}}", condition):
                raise ValueError(f"conditions: {condition!r} is not nm-, bg- or cl- and two digits, e.g. 'nm-01'")
        for view in self.views:
            if not re.fullmatch("[0-9]{3}", view):
                raise ValueError(f"views: {view!r} is not an angle of three digits, e.g. '018'")
        if not self.conditions or not self.views:
            raise ValueError("conditions and views: give at least one of each")


class Summary(NamedTuple):
    """Result of write_walkers; sequences found were there from an earlier run."""

    subjects: int
    sequences_written: int
    sequences_found: int
    frames_written: int
    seconds: float


# --- one sequence -----------------------------------------------------------------------------------------------------


class _Scene(NamedTuple):
    """A walk as all cameras see it, in metres, as many poses as the longest sequence has frames."""

    walk: Walk
    centres: np.ndarray  # float [s, b, 3]
    axes: np.ndarray  # float [s, b, 3, 3]
    parts: np.ndarray  # int [p, 3]


@lru_cache(maxsize=2)
def scene_of(config: SyntheticConfig, subject: int, condition: str) -> _Scene:
    """Let person `subject` walk past the cameras."""
    walk = draw_walk(config.seed, subject, condition)
    traits, longest = walk.traits, config.frames[1]
    strides = (np.arange(longest) - (longest - 1) / 2) / FRAMES_PER_SECOND * traits.cadence / 2
    body = pose(walk, walk.start + strides)
    centres, axes = body.arrays()
    hips = hips_above_floor(traits, centres, axes, walk.start + strides)
    hips[:, 0] += strides * walk_speed(walk)
    centres = traits.stature * (centres + hips[:, None])
    centres[..., :2] += walk.path
    return _Scene(walk, centres, traits.stature * axes, np.array(body.parts))


def render_sequence(config: SyntheticConfig, subject: int, condition: str, view: str) -> UInt8[np.ndarray, "s h w"]:
    """Render silhouettes of person `subject` (from 1): 240 x 320 pixels of 0 or 255, 25 frames a second."""
    rng = np.random.default_rng([config.seed, 3, subject, *condition_numbers(condition), int(view)])
    walk, centres, axes, parts = scene_of(config, subject, condition)
    s = int(rng.integers(config.frames[0], config.frames[1] + 1))
    first = int(rng.integers(config.frames[1] - s + 1))
    window = slice(first, first + s)
    return draw(outlines(centres[window], axes[window], parts, camera_of(walk, view)), rng)


def fingerprint(config: SyntheticConfig) -> str:
    """Hash what the pictures depend on besides (subject, condition, view): settings and three drawn sequences."""
    digest = hashlib.sha256(json.dumps([config.seed, config.frames]).encode())
    for condition in ("nm-01", "bg-01", "cl-01"):
        digest.update(render_sequence(config, 1, condition, "054").tobytes())
    return digest.hexdigest()[:16]


# --- the data set on disk ---------------------------------------------------------------------------------------------


class _Job(NamedTuple):
    """Walks that a process writes between two flushes: (subject, condition, views) each."""

    config: SyntheticConfig
    out_dir: Path
    walks: list[tuple[int, str, tuple[str, ...]]]

    @property
    def sequences(self) -> int:
        return sum(len(views) for _, _, views in self.walks)


def write_walkers(
    config: SyntheticConfig, out_dir: str | os.PathLike, processes: int | None = None, progress: bool = True
) -> Summary:
    """Write every sequence that is not there yet as <out_dir>/<subject>/<condition>/<view>/<name>-<frame>.png.

    processes: None takes all cores; the files are the same for any number. A run that was killed or lost its power
    leaves whole sequences only; started again with the same settings, or with more subjects, it goes on from there.
    A second run on the same folder waits for the first. Raises ValueError if out_dir holds something else, OSError if
    a file can't be written.
    """
    began, out_dir = time.perf_counter(), Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    with locked(out_dir / f"{NOTE}.lock", f"Another process draws walkers in {out_dir}: waiting for it"):
        _claim(config, out_dir)
        shutil.rmtree(out_dir / SCRATCH, ignore_errors=True)
        jobs = _missing(config, out_dir)
        asked = config.subjects * len(config.conditions) * len(config.views)
        missing, frames = sum(job.sequences for job in jobs), 0
        with tqdm(total=asked, initial=asked - missing, unit="sequence", desc="walkers", disable=not progress) as bar:
            for job, written in zip(jobs, _run(jobs, processes), strict=True):
                frames += written
                bar.set_postfix_str(f"{frames / (time.perf_counter() - began):.0f} frames/s", refresh=False)
                bar.update(job.sequences)
        shutil.rmtree(out_dir / SCRATCH, ignore_errors=True)
    return Summary(config.subjects, missing, asked - missing, frames, round(time.perf_counter() - began, 2))


def _claim(config: SyntheticConfig, out_dir: Path) -> None:
    """Mark the folder with our settings, or refuse one that holds anything else than walkers of the same settings."""
    note, ours = out_dir / NOTE, {"seed": config.seed, "frames": [*config.frames], "fingerprint": fingerprint(config)}
    if note.exists():
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
        except ValueError:
            found = "settings that can't be read"
        if found != ours:
            raise ValueError(f"{out_dir} holds other walkers ({found}, not {ours}): delete it or choose another folder")
        return
    if any(not path.name.startswith(NOTE) for path in out_dir.iterdir()):
        raise ValueError(f"{out_dir} is not empty and has no {NOTE} of an earlier run: choose another folder")
    write_atomically(note, json.dumps(ours))


def _missing(config: SyntheticConfig, out_dir: Path) -> list[_Job]:
    """Divide the sequences that are not there yet into jobs of about FLUSHED_FRAMES frames."""
    walks = []
    for subject in range(1, config.subjects + 1):
        for condition in config.conditions:
            folder = out_dir / f"{subject:03d}" / condition
            folder.mkdir(parents=True, exist_ok=True)
            present = set(os.listdir(folder))
            if views := tuple(view for view in config.views if view not in present):
                walks.append((subject, condition, views))
    size = max(FLUSHED_FRAMES // (config.frames[1] * len(config.views)), 1)
    return [_Job(config, out_dir, walks[i : i + size]) for i in range(0, len(walks), size)]


def _write(job: _Job) -> int:
    """Write the walks of a job, each folder at once or not at all; returns the number of frames."""
    written, renames = 0, []
    for subject, condition, views in job.walks:
        for view in views:
            name = f"{subject:03d}-{condition}-{view}"
            scratch = job.out_dir / SCRATCH / name
            scratch.mkdir(parents=True)
            for i, frame in enumerate(render_sequence(job.config, subject, condition, view), 1):
                png = cv2.imencode(".png", frame, FAST_PNG)[1].tobytes()
                (scratch / f"{name}-{i:03d}.png").write_bytes(png)
                written += 1
            renames.append((scratch, job.out_dir / f"{subject:03d}" / condition / view))
    flush_file_system(job.out_dir)  # before any of them gets its name
    for scratch, folder in renames:
        os.rename(scratch, folder)
    return written


def _run(jobs: list[_Job], processes: int | None) -> Iterator[int]:
    """Results of _write in the order of the jobs. New processes are spawned: a fork would copy JAX's threads."""
    processes = min(processes or available_cores(), len(jobs))
    if processes <= 1:
        yield from map(_write, jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start_process) as pool:
        try:
            yield from pool.map(_write, jobs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_process() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: the walks at hand are still written
