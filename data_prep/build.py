"""Build a data set of array records from raw silhouettes.

    python -m data_prep.build casia_b --raw=CASIA-B.zip --data_dir=<dir>
    python -m data_prep.build oumvlp --raw=<folder of zips> --data_dir=<dir> --password_file=<file>
    python -m data_prep.build silhouettes --raw=<folder> --data_dir=<dir> --name=<your name for it>

Writes <data_dir>/<name>/<height>/1.0.0/, which `tfds.builder_from_directory` reads without TensorFlow. Until it is
complete the folder is called 1.0.0.incomplete; started again, a build goes on from there.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from data_prep.align import HEIGHTS
from data_prep.archives import Archives
from data_prep.build_report import Report, lines_of, metadata_of, read_report, report_path, summary, write_report
from data_prep.datasets import DATASETS
from data_prep.faults import Fault, group_faults, printable
from data_prep.frames import read_aligned
from data_prep.jobs import Job, make_jobs
from data_prep.options import (
    DEFAULT_READING,
    ReadingOptions,
    add_common_options,
    add_reading_options,
    take_reading_options,
    use_lenient_output,
)
from data_prep.raw import list_raw
from data_prep.records import VERSION, digest, serialize, write_info, write_shard
from data_prep.workers import WorkerDied, Workers
from gil_jax.data.files import locked, replace_durably
from gil_jax.data.shards import read_json
from gil_jax.data.source import SilhouetteSource, data_home
from gil_jax.errors import run_command

# run(function, jobs) -> results of function(archives, job), in any order.
RunShards = Callable[[Callable, list], Iterable]


class BuildError(ValueError):
    """Error of a build; the message names the place and the fix."""


def build_dataset(
    dataset: str,
    raw: str | os.PathLike,
    data_dir: str | os.PathLike = "",
    height: int = 64,
    *,
    name: str = "",
    on_error: str = "stop",
    processes: int | None = None,
    reading: ReadingOptions = DEFAULT_READING,
    overwrite: bool = False,
    progress: bool = True,
    run_shards: RunShards | None = None,
) -> Path:
    """Align raw silhouettes and write them as a TFDS data set; return its folder.

    dataset: a key of DATASETS; raw: a folder or an archive; data_dir: empty for $TFDS_DATA_DIR, or
    ~/tensorflow_datasets; name: of the data set, the dataset's name if empty; on_error: "stop" at the first fault in
    the raw data or "skip" what is faulty; processes: None for one per core; the records are the same for any number.
    reading: the layout, passwords and limits. run_shards: writes the shards elsewhere than in processes of this
    machine. overwrite: build again in any case. A complete data set of the same raw data is returned at once, a damaged
    one is built again.

    Raises ValueError (BuildError, LayoutError, PasswordError, LimitError) that names the fix.
    """
    name = name or dataset
    _check_arguments(dataset, name, height, on_error)
    home = data_home(data_dir)
    final = home / name / str(height) / VERSION
    began = time.perf_counter()
    with (
        _only_builder(final) as partial,
        Workers(
            processes, reading.passwords(), str(partial / "scratch"), reading.zip_encoding, reading.limits
        ) as workers,
    ):
        listing = list_raw(raw, workers.run, final.parent, reading.rules(dataset), reading.limits)
        if progress:
            tqdm.write(listing.describe())
        _stop_at(listing.faults, on_error)
        job = Job(partial, [], height, on_error, DATASETS[dataset].alignment, "")
        jobs = make_jobs(listing.sequences, Path(raw), job, name)
        plan = hashlib.sha256(" ".join(job.plan for job in jobs).encode()).hexdigest()[:32]
        if final.exists() and not overwrite:
            built_plan, damage = _inspect(final)
            if built_plan not in ("", plan):
                raise BuildError(f"{final} was built from other raw data: give another --name, or --overwrite")
            if not damage:
                return final
            if progress:
                tqdm.write(printable(f"It is built again now: {damage}"))
        reports = _build_shards(run_shards or workers.run, jobs, partial, progress)
        listing = listing._replace(faults=group_faults(listing.faults))
        metadata = metadata_of(dataset, str(raw), listing, reports, height, plan) | {"notes": listing.notes}
        if not metadata["lengths"]:
            faults = group_faults(Fault(*fault) for fault in metadata["faults"])
            reason = lines_of(faults) if faults else "no frame with a person in it; all are black"
            raise BuildError(f"--raw={raw}: nothing is left to write: {reason}")
        lengths = [len(report.lengths) for report in reports]
        write_info(partial / "shards", name, height, lengths, DATASETS[dataset].description, metadata)
        if final.exists():
            shutil.rmtree(final)
        replace_durably(partial / "shards", final)
    if progress:
        tqdm.write(summary(final, metadata, time.perf_counter() - began))
    return final


def _inspect(folder: Path) -> tuple[str, str]:
    """Return the plan of a data set, empty if it can't be read, and its damage, empty if there is none."""
    try:
        return SilhouetteSource(folder).plan, ""
    except ValueError as error:
        damage = str(error)
    try:
        return str(read_json(folder / "metadata.json").get("plan", "")), damage
    except ValueError:
        return "", damage


def _check_arguments(dataset: str, name: str, height: int, on_error: str) -> None:
    if dataset not in DATASETS:
        raise ValueError(f"dataset={dataset!r}: choose one of {sorted(DATASETS)}; your own data are 'silhouettes'")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"--name={name!r}: small letters, digits and _ only, a letter first")
    if height not in HEIGHTS:
        raise ValueError(f"--height={height}: choose one of {HEIGHTS}")
    if on_error not in ("stop", "skip"):
        raise ValueError(f"--on_error={on_error!r}: choose 'stop' or 'skip'")


@contextlib.contextmanager
def _only_builder(final: Path) -> Iterator[Path]:
    """Yield the folder to build in, for one process at a time; remove it when its shards are complete and moved."""
    partial = final.with_name(f"{final.name}.incomplete")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with locked(partial.with_name(f".{final.name}.lock"), f"Another process builds {final}: waiting for it"):
        for part in ("shards", "reports", "scratch"):
            (partial / part).mkdir(parents=True, exist_ok=True)
        for left in (partial / "scratch").glob("*.tmp"):
            left.unlink()
        try:
            yield partial
        except BaseException:
            if any((partial / "shards").iterdir()):
                raise
            shutil.rmtree(partial)  # nothing to go on from
            raise
        shutil.rmtree(partial)


def _build_shards(run: RunShards, jobs: list[Job], partial: Path, progress: bool) -> list[Report]:
    """Write the missing shards; return the reports of all."""
    ours = {name for job in jobs for name in (job.path.name, report_path(job.path).name)}
    for left in [*(partial / "shards").iterdir(), *(partial / "reports").iterdir()]:
        if left.name not in ours:
            left.unlink()
    sizes = {job.path: len(job.sequences) for job in jobs}
    found = {job.path: read_report(job.path) for job in jobs}
    missing = [job for job in jobs if not _is_kept(found[job.path], job)]
    reports = {path: report for path, report in found.items() if report}
    kept = sum(sizes.values()) - sum(sizes[job.path] for job in missing)
    frames = 0
    with tqdm(total=sum(sizes.values()), initial=kept, unit="seq", desc="build", disable=not progress) as bar:
        try:
            for path in run(_build_shard, missing):
                reports[path] = _finished(path)
                frames += reports[path].raw_frames
                bar.update(sizes[path])
                bar.set_postfix_str(f"{frames / max(bar.format_dict['elapsed'], 1e-9):,.0f} frames/s", refresh=False)
        except (OSError, WorkerDied) as error:
            kept = sum(_is_kept(read_report(job.path), job) for job in jobs)
            raise BuildError(f"{error}. {kept} of {len(jobs)} shards are kept: the same command goes on") from error
    return [reports[job.path] for job in jobs]


def _finished(shard: Path) -> Report:
    """Read the report of a shard that was just written."""
    report = read_report(shard)
    if report is None:
        raise OSError(f"{shard}: the shard or its report is gone")
    return report


def _is_kept(report: Report | None, job: Job) -> bool:
    """Tell whether a shard stays: of the same raw data and without faults, which may have been mended since."""
    return report is not None and report.plan == job.plan and not report.faults


def _build_shard(archives: Archives, job: Job) -> Path:
    """Read, align and write the sequences of a shard; returns its path."""
    report = Report(job.plan, [], [], [], [], [], 0)

    def records():
        for sequence in job.sequences:
            aligned = read_aligned(sequence, archives, job.height, job.alignment)
            _stop_at(aligned.faults, job.on_error)
            report.faults.extend(aligned.faults)
            report.raw_frames += aligned.raw
            report.conversions.extend(aligned.conversions)
            if aligned.is_empty:
                report.empty.append(sequence.place)
            if len(aligned.frames) == 0:
                continue
            report.labels.append(sequence.labels)
            report.lengths.append(len(aligned.frames))
            report.digests.append(digest(sequence.labels, aligned.frames))
            yield serialize(sequence.labels, aligned.frames)

    scratch = job.path.parent.parent / "scratch"
    write_shard(job.path, records(), scratch)
    write_report(job.path, report)
    return job.path


def _stop_at(faults: list[Fault], on_error: str) -> None:
    if faults and on_error == "stop":
        lines = lines_of(group_faults(faults))
        raise BuildError(f"{lines}\nMend or remove it, or give --on_error=skip to leave out what is faulty")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_build_options(parser)
    parser.add_argument("--processes", type=int, help="default: one per core")
    options = vars(parser.parse_args(arguments))
    return run_build(options)


def add_build_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a build, on one machine or on many."""
    add_common_options(parser)
    parser.add_argument("--raw", required=True, help="a folder, or a zip, tar or packed tar archive, read in place")
    parser.add_argument("--on_error", default="stop", choices=("stop", "skip"), help="at a fault in the raw data")
    parser.add_argument("--overwrite", action="store_true", help="build again, and replace the data set that is there")
    add_reading_options(parser)


def run_build(options: dict, make_run: Callable[[ReadingOptions], RunShards] | None = None) -> int:
    """Build as the options of the command ask for, and print the folder; returns the exit status.

    make_run: makes a function that writes the shards elsewhere than in processes of this machine.
    """
    use_lenient_output()
    debug = options.pop("debug")

    def run() -> None:
        reading = take_reading_options(options)
        run_shards = make_run(reading) if make_run else None
        try:
            print(printable(str(build_dataset(**options, reading=reading, run_shards=run_shards))))
        except KeyboardInterrupt:
            print("Finished shards are kept: the same command goes on from there", file=sys.stderr)
            raise

    return run_command(run, debug)


if __name__ == "__main__":
    sys.exit(main())
