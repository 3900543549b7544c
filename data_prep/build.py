"""Build a data set of array records from raw silhouettes.

    python -m data_prep.build casia_b --raw=CASIA-B.zip --data_dir=<dir>
    python -m data_prep.build oumvlp --raw=<folder of zips> --data_dir=<dir> --password_file=<file>
    python -m data_prep.build silhouettes --raw=<folder> --data_dir=<dir> --name=<your name for it>

Writes <data_dir>/<name>/<height>/1.0.0/, which `tfds.builder_from_directory` reads without TensorFlow. Until all of it
is there it is called 1.0.0.incomplete; started again, a build goes on from there.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from data_prep.align import ALIGNMENT
from data_prep.archives import Archives, Fault, is_our_side
from data_prep.frames import HEIGHTS, read_aligned
from data_prep.info import Report, lines_of, metadata_of, read_report, report_path, summary, write_report
from data_prep.raw import RawSequence, list_raw
from data_prep.records import VERSION, digest, serialize, shard_name, write_info, write_shard
from data_prep.workers import WorkerDied, Workers
from gil_jax.data.source import data_home

DATASETS = {
    "casia_b": "CASIA-B (Yu, Tan and Tan, ICPR 2006): 124 people, 11 views, walking, with a bag, in a coat.",
    "oumvlp": "OU-MVLP (Takemura et al., IPSJ CVA 2018): 10,307 people, 14 views.",
    "silhouettes": "Silhouettes in <subject>/<condition>/<view>/.",
    "synthetic": "Synthetic walkers, drawn by data_prep.synthetic.",
}
_PASSWORD_VARIABLE = "RAW_DATA_PASSWORD"

# run(function, jobs) -> results of function(archives, job), in any order.
RunShards = Callable[[Callable, list], Iterable]


class BuildError(RuntimeError):
    """The build stopped; the message says at what, and what to do."""


class Job(NamedTuple):
    """A shard to write. plan: what its records depend on."""

    path: Path
    sequences: list[RawSequence]
    height: int
    on_error: str
    plan: str


def build_dataset(
    dataset: str,
    raw: str | os.PathLike,
    data_dir: str | os.PathLike = "",
    height: int = 64,
    *,
    name: str = "",
    on_error: str = "stop",
    processes: int | None = None,
    password_file: str = "",
    overwrite: bool = False,
    progress: bool = True,
    run_shards: RunShards | None = None,
) -> Path:
    """Align raw silhouettes and write them as a TFDS data set; returns its folder.

    dataset: a key of DATASETS; raw: a folder or an archive; data_dir: empty for $TFDS_DATA_DIR, or
    ~/tensorflow_datasets; name: what to call it, the dataset's name if empty; on_error: "stop" at the first fault in
    the raw data or "skip" what is faulty; processes: None for one a core, the records are the same for any number.
    run_shards: writes the shards elsewhere than in processes of this machine. A whole data set of the same raw data is
    returned at once. Raises BuildError or ValueError that names the fix.
    """
    name = name or dataset
    _check_arguments(dataset, name, height, on_error)
    home = data_home(data_dir)
    final = home / name / str(height) / VERSION
    began = time.perf_counter()
    with (
        _only_builder(final) as aside,
        Workers(processes, read_passwords(password_file), str(aside / "scratch")) as workers,
    ):
        listing = list_raw(raw, workers.run, skip=final.parent)
        _stop_at(listing.faults, on_error)
        jobs = _jobs(listing.sequences, Path(raw), aside, name, height, on_error)
        plan = hashlib.sha256(" ".join(job.plan for job in jobs).encode()).hexdigest()[:32]
        if final.exists():
            if json.loads((final / "metadata.json").read_text(encoding="utf-8"))["plan"] == plan:
                return final
            if not overwrite:
                raise BuildError(f"{final} was built from other raw data: give another --name, or --overwrite")
        reports = _build_shards(run_shards or workers.run, jobs, aside, progress)
        metadata = metadata_of(dataset, str(raw), listing, reports, height, plan)
        if not metadata["lengths"]:
            raise BuildError(f"--raw={raw}: no frame with a person in it; {metadata['faults'][:10] or 'all are black'}")
        lengths = [len(report.lengths) for report in reports]
        write_info(aside / "shards", name, height, lengths, DATASETS[dataset], metadata)
        if final.exists():
            shutil.rmtree(final)
        (aside / "shards").rename(final)
    if progress:
        tqdm.write(summary(final, metadata, time.perf_counter() - began))
    return final


def _check_arguments(dataset: str, name: str, height: int, on_error: str) -> None:
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r}: choose one of {sorted(DATASETS)}; your own data are 'silhouettes'")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"--name={name!r}: small letters, digits and _ only, a letter first")
    if height not in HEIGHTS:
        raise ValueError(f"--height={height}: choose one of {HEIGHTS}")
    if on_error not in ("stop", "skip"):
        raise ValueError(f"--on_error={on_error!r}: choose 'stop' or 'skip'")


def read_passwords(password_file: str) -> tuple[bytes, ...]:
    """One password a line; the environment's comes last."""
    lines = []
    if password_file:
        path = Path(password_file).expanduser()
        if not path.is_file():
            raise ValueError(f"--password_file={password_file}: there is no such file")
        lines = path.read_bytes().splitlines()
    lines.append(os.environ.get(_PASSWORD_VARIABLE, "").encode("utf-8"))
    return tuple(line for line in lines if line)


@contextlib.contextmanager
def _only_builder(final: Path):
    """The folder to build in, for one process at a time; taken away once its shards are whole and moved."""
    aside = final.with_name(f"{final.name}.incomplete")
    aside.parent.mkdir(parents=True, exist_ok=True)
    with open(aside.with_name(f".{final.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tqdm.write(f"Another process builds {final}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for part in ("shards", "reports", "scratch"):
            (aside / part).mkdir(parents=True, exist_ok=True)
        for left in (aside / "scratch").glob("*.tmp"):
            left.unlink()
        try:
            yield aside
        except BaseException:
            if any((aside / "shards").iterdir()):
                raise
            shutil.rmtree(aside)  # nothing to go on from
            raise
        shutil.rmtree(aside)


def _jobs(sequences: list[RawSequence], raw: Path, aside: Path, name: str, height: int, on_error: str) -> list[Job]:
    """Cut the sequences into shards: 32 each, more where that would give more than 256 shards."""
    shards = min(max(-(-len(sequences) // 32), 1), 256)
    edges = np.linspace(0, len(sequences), shards + 1).astype(int)
    stamps: dict[str, str] = {}
    jobs = []
    for i in range(shards):
        mine = sequences[edges[i] : edges[i + 1]]
        plan = _plan(mine, raw, height, stamps)
        jobs.append(Job(aside / "shards" / shard_name(name, i, shards), mine, height, on_error, plan))
    return jobs


def _plan(sequences: list[RawSequence], raw: Path, height: int, stamps: dict[str, str]) -> str:
    """A hash of everything that the records depend on, short of reading the frames: places, sizes, times."""
    root = raw.expanduser().absolute()
    plan = hashlib.sha256(f"{ALIGNMENT} {height}".encode())
    for sequence in sequences:
        words = [*sequence.labels, os.path.relpath(sequence.place, root), sequence.names]
        if sequence.chain:
            if sequence.chain[0] not in stamps:
                stamps[sequence.chain[0]] = _stamp(sequence.chain[0])
            words.append(stamps[sequence.chain[0]])
        else:
            words += [_stamp(os.path.join(sequence.folder, name)) for name in sequence.files]
        plan.update("\0".join(words).encode("utf-8", "surrogateescape"))
        plan.update(sequence.handles)
    return plan.hexdigest()[:32]


def _stamp(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return "gone"  # whoever reads it will say so
    return f"{state.st_size} {state.st_mtime_ns}"


def _build_shards(run: RunShards, jobs: list[Job], aside: Path, progress: bool) -> list[Report]:
    """Write the shards that are not there yet; returns the reports of all."""
    ours = {name for job in jobs for name in (job.path.name, report_path(job.path).name)}
    for left in [*(aside / "shards").iterdir(), *(aside / "reports").iterdir()]:
        if left.name not in ours:
            left.unlink()
    sizes = {job.path: len(job.sequences) for job in jobs}
    reports = {job.path: read_report(job.path) for job in jobs}
    missing = [job for job in jobs if not _is_kept(reports[job.path], job)]
    kept = sum(sizes.values()) - sum(sizes[job.path] for job in missing)
    frames = 0
    with tqdm(total=sum(sizes.values()), initial=kept, unit="seq", desc="build", disable=not progress) as bar:
        try:
            for path in run(_build_shard, missing):
                reports[path] = read_report(path)
                frames += reports[path].raw_frames
                bar.update(sizes[path])
                bar.set_postfix_str(f"{frames / max(bar.format_dict['elapsed'], 1e-9):,.0f} frames/s", refresh=False)
        except (OSError, WorkerDied) as error:
            whole = sum(_is_kept(read_report(job.path), job) for job in jobs)
            raise BuildError(f"{error}. {whole} of {len(jobs)} shards are kept: the same command goes on") from error
    return [reports[job.path] for job in jobs]


def _is_kept(report: Report | None, job: Job) -> bool:
    """Is the shard there, of the same raw data? One with faults is made again: a disk may have come back."""
    return report is not None and report.plan == job.plan and not report.faults


def _build_shard(archives: Archives, job: Job) -> Path:
    """Read, align and write the sequences of a shard; returns where it is."""
    report = Report(job.plan, [], [], [], [], [], 0)

    def records():
        for sequence in job.sequences:
            aligned = read_aligned(sequence, archives, job.height)
            _stop_at(aligned.faults, job.on_error)
            report.faults.extend(aligned.faults)
            report.raw_frames += aligned.raw
            if len(aligned.frames) == 0:
                report.empty.append(sequence.place)
                continue
            report.labels.append(sequence.labels)
            report.lengths.append(len(aligned.frames))
            report.digests.append(digest(sequence.labels, aligned.frames))
            yield serialize(sequence.labels, aligned.frames)

    scratch = job.path.parent.parent / "scratch"
    write_shard(job.path, records(), scratch)
    write_report(job.path, report, scratch)
    return job.path


def _stop_at(faults: list[Fault], on_error: str) -> None:
    if faults and on_error == "stop":
        raise BuildError(f"{lines_of(faults)}\nMend or remove it, or give --on_error=skip to leave out what is faulty")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=sorted(DATASETS))
    parser.add_argument("--raw", required=True, help="a folder, or a zip, tar or packed tar archive, read in place")
    parser.add_argument("--data_dir", default="", help="default: $TFDS_DATA_DIR or ~/tensorflow_datasets")
    parser.add_argument("--name", default="", help="what to call the data set, if not as its dataset")
    parser.add_argument("--height", type=int, default=64, choices=HEIGHTS)
    parser.add_argument("--on_error", default="stop", choices=("stop", "skip"), help="at a fault in the raw data")
    parser.add_argument("--processes", type=int, help="one a core by default")
    parser.add_argument("--password_file", default="", help=f"for zips, one a line; or ${_PASSWORD_VARIABLE}")
    parser.add_argument("--overwrite", action="store_true", help="replace one that was built from other raw data")
    options = vars(parser.parse_args(arguments))
    try:
        print(build_dataset(**options))
    except (BuildError, ValueError) as error:
        print(f"STOPPED: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not is_our_side(error):
            raise
        print(f"STOPPED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("STOPPED by hand. What is whole is kept: the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
