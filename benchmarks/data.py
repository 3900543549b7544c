"""Speed and size of the data: the build against OpenCV by hand, the training input against pickles.

    python -m benchmarks.data --raw=<zip of tar.gz in CASIA-B's layout> [--scratch=<dir>] [--processes=2] [--repeats=3]
    python -m benchmarks.data --people=10307 [--frames=2]

Without --raw it draws 12 synthetic walkers. The alternatives take turns in one run; the medians are printed as a table.
"by hand" is the common script: imread, crop, resize, centre, one pickle a sequence, in a pool of as many processes.
All files are read once before a clock starts, so that none of them waits for the disk. CPU seconds are summed over all
processes; they are steadier than the clock on a machine that has other work. With --people it builds a data set of
OU-MVLP's shape (28 zips, that many people in each) and reports time and memory.
"""

import argparse
import multiprocessing
import pickle
import resource
import shutil
import statistics
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from configs.base import base_config
from data_prep.build import build_dataset
from data_prep.synthetic import SyntheticConfig, write_walkers
from gil_jax.data.dataset import rows_by_subject
from gil_jax.data.loader import train_batches
from gil_jax.data.protocols import OUMVLP
from gil_jax.data.source import SilhouetteSource


def align_by_hand(path: str) -> np.ndarray | None:
    """Align a frame as the usual preparation scripts do, with numpy and OpenCV."""
    frame = cv2.imread(path, cv2.IMREAD_GRAYSCALE)
    if frame is None or frame.sum() <= 10_000:
        return None
    rows = np.flatnonzero(frame.sum(axis=1))
    frame = frame[rows[0] : rows[-1] + 1]
    frame = cv2.resize(frame, (int(64 * frame.shape[1] / frame.shape[0]), 64), interpolation=cv2.INTER_CUBIC)
    running = frame.sum(axis=0).cumsum()
    centre = int(np.searchsorted(running, running[-1] / 2, side="right"))
    return np.pad(frame, ((0, 0), (32, 32)))[:, centre : centre + 64]


def pickle_by_hand(job: tuple[str, str]) -> int:
    """Align the frames of a folder and pickle them; return their number."""
    cv2.setNumThreads(1)
    folder, target = job
    paths = sorted(Path(folder).iterdir())
    aligned = [frame for frame in (align_by_hand(str(path)) for path in paths) if frame is not None]
    Path(target).write_bytes(pickle.dumps(np.stack(aligned)))
    return len(paths)


def build_by_hand(raw: Path, target: Path, processes: int) -> None:
    """Align and pickle all sequences of a tree."""
    target.mkdir()
    folders = sorted(folder for folder in raw.glob("*/*/*") if folder.is_dir())
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(pickle_by_hand, [(str(f), f"{target}/{'-'.join(f.parts[-3:])}.pkl") for f in folders], chunksize=4)


class PickleSource:
    """Source of sequences that reads the pickles of `build_by_hand`."""

    height = 64

    def __init__(self, folder: Path, table):
        names = zip(table.subjects, table.conditions, table.views, strict=True)
        self.table = table
        self._paths = [f"{folder}/{'-'.join(name)}.pkl" for name in names]

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> np.ndarray:
        with open(self._paths[index], "rb") as file:
            return pickle.load(file)


def unpack(raw: Path, target: Path) -> Path:
    """Unpack the raw data to plain folders, for the build by hand."""
    with zipfile.ZipFile(raw) as outer:
        for name in outer.namelist():
            with outer.open(name) as packed, tarfile.open(fileobj=packed, mode="r|gz") as inner:
                inner.extractall(target, filter="data")
    return target


def pack(raw: Path, target: Path) -> Path:
    """Pack plain folders as CASIA-B is published: a zip of one tar.gz per subject."""
    with zipfile.ZipFile(target, "w") as outer:
        for folder in sorted(path for path in raw.iterdir() if path.is_dir()):
            with outer.open(f"{folder.name}.tar.gz", "w") as packed, tarfile.open(fileobj=packed, mode="w|gz") as inner:
                inner.add(folder, folder.name)
    return target


class Cost(NamedTuple):
    """Seconds on the clock, and of all processors."""

    clock: float
    cpu: float


def medians(rivals: dict, repeats: int) -> dict[str, Cost]:
    """Return the median cost of every function, by its name; they take turns."""
    costs = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, run in rivals.items():
            began, busy = time.perf_counter(), _cpu_seconds()
            run()
            costs[name].append(Cost(time.perf_counter() - began, _cpu_seconds() - busy))
    return {name: Cost(*map(statistics.median, zip(*each, strict=True))) for name, each in costs.items()}


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def report(title: str, rates: dict[str, tuple[float, ...]]) -> None:
    """Print a table; every number also as a multiple of the one in the first row."""
    first = next(iter(rates.values()))
    print(f"\n| {title} |")
    for name, row in rates.items():
        print(
            f"| {name} | " + " | ".join(f"{x:,.1f} (x {x / one:.2f})" for x, one in zip(row, first, strict=True)) + " |"
        )


def per_second(count: int, costs: dict[str, Cost]) -> dict[str, tuple[float, float]]:
    """Return count per second of the clock and count per CPU second, by name."""
    return {name: (count / cost.clock, count / cost.cpu) for name, cost in costs.items()}


def compare_builds(folder: Path, packed: Path, scratch: Path, processes: int, repeats: int) -> tuple[Path, Path]:
    """Measure three ways to build, in frames per second; return the folders of the records and the pickles."""

    def build(raw: Path, name: str) -> Path:
        shutil.rmtree(scratch / name, ignore_errors=True)
        return build_dataset("casia_b", raw, scratch / name, processes=processes, progress=False)

    def by_hand() -> None:
        shutil.rmtree(scratch / "pickles", ignore_errors=True)
        build_by_hand(folder, scratch / "pickles", processes)

    for path in [packed, *folder.rglob("*.png")]:
        path.read_bytes()
    costs = medians(
        {
            "OpenCV by hand, from folders": by_hand,
            "data_prep.build, from folders": lambda: build(folder, "from_folder"),
            "data_prep.build, from the zip of tar.gz": lambda: build(packed, "from_zip"),
        },
        repeats,
    )
    records = scratch / "from_zip/casia_b/64/1.0.0"
    source = SilhouetteSource(records)
    frames = sum(1 for _ in folder.rglob("*.png"))
    print(f"{len(source):,} sequences, {frames:,} frames, {processes} processes, medians of {repeats}")
    report("build | frames/s | frames per CPU second", per_second(frames, costs))
    sizes = {
        "pickles of uint8 [s, 64, 64]": sum(path.stat().st_size for path in (scratch / "pickles").iterdir()),
        "array records": sum(path.stat().st_size for path in records.iterdir() if "array_record" in path.name),
        "memory map": int(source.table.lengths.sum()) * 64 * 64,
    }
    report("size | MB per 1,000 sequences", {name: (size / len(source) / 1000,) for name, size in sizes.items()})
    return records, scratch / "pickles"


def compare_inputs(records: Path, pickles: Path, repeats: int, workers: int) -> None:
    """Measure sequences and training batches per second, everything in the page cache."""
    plain = SilhouetteSource(records)
    sources = {
        "pickles": PickleSource(pickles, plain.table),
        "array records": plain,
        "array records, cache=memmap": SilhouetteSource(records, cache="memmap"),
    }
    order = np.random.default_rng(0).permutation(len(plain))

    def read_all(source) -> None:
        for index in order:
            source[int(index)].max()

    for source in sources.values():
        read_all(source)
    costs = medians({name: lambda s=source: read_all(s) for name, source in sources.items()}, 2 * repeats)
    report("whole sequences, one thread | sequences/s | per CPU second", per_second(len(order), costs))

    steps, config = 12, base_config().data
    subjects = np.unique(plain.table.subjects)
    config.subjects_per_batch = min(8, len(subjects))
    config.workers = workers
    rows = rows_by_subject(plain.table.subjects, subjects.tolist())
    slots = np.arange(config.subjects_per_batch * config.sequences_per_subject)

    def run(source) -> None:
        for batch in train_batches(source, rows, config, 0, 0, steps, slots):
            batch.silhouettes.max()

    costs = medians({name: lambda s=source: run(s) for name, source in sources.items()}, 2 * repeats)
    shape = f"{config.subjects_per_batch}x{config.sequences_per_subject}x{config.frames}"
    report(f"batches of {shape}, {workers} workers | batches/s | per CPU second", per_second(steps, costs))


def build_large(people: int, frames: int, scratch: Path, processes: int) -> None:
    """Build a data set of OU-MVLP's shape out of one small frame, and print time and memory."""
    frame = cv2.ellipse(np.zeros((80, 60), np.uint8), (30, 40), (12, 36), 0, 0, 360, 255, -1)
    picture = cv2.imencode(".png", frame)[1].tobytes()
    raw = scratch / "raw"
    raw.mkdir()
    for view in OUMVLP.views:
        for condition in OUMVLP.conditions:
            with zipfile.ZipFile(raw / f"Silhouette_{view}-{condition}.zip", "w") as archive:
                for subject in range(1, people + 1):
                    for k in range(1, frames + 1):
                        archive.writestr(f"Silhouette_{view}-{condition}/{subject:05d}/{k:04d}.png", picture)
    began = time.perf_counter()
    folder = build_dataset("oumvlp", raw, scratch / "built", processes=processes)
    seconds = time.perf_counter() - began
    began = time.perf_counter()
    source = SilhouetteSource(folder)
    opened = time.perf_counter() - began
    own, largest = (resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{len(source):,} sequences, {source.table.lengths.sum():,} frames: built in {seconds:.0f} s, "
        f"{len(source) / seconds:,.0f} sequences/s; labels read in {opened:.2f} s; "
        f"largest resident size {own:,.0f} MB of the owner, {largest:,.0f} MB of a worker"
    )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--scratch", type=Path, help="an empty folder; default: a temporary one")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of the training input")
    parser.add_argument("--people", type=int, help="build a data set of OU-MVLP's shape instead")
    parser.add_argument("--frames", type=int, default=2, help="of each of its sequences")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name)
        if options.people:
            build_large(options.people, options.frames, scratch, options.processes)
            return
        if options.raw:
            packed, folder = options.raw, unpack(options.raw, scratch / "raw")
        else:
            write_walkers(SyntheticConfig(subjects=12), scratch / "raw")
            folder, packed = scratch / "raw", pack(scratch / "raw", scratch / "raw.zip")
        records, pickles = compare_builds(folder, packed, scratch, options.processes, options.repeats)
        compare_inputs(records, pickles, options.repeats, options.workers)


if __name__ == "__main__":
    main()
