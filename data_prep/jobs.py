"""Jobs of a build: the shards to write, each with a hash of everything that its records depend on."""

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.align import ALIGNMENT
from data_prep.raw import RawSequence
from data_prep.records import shard_name


class Job(NamedTuple):
    """A shard to write. alignment: as in RawDataset; plan: a hash of everything that its records depend on."""

    path: Path
    sequences: list[RawSequence]
    height: int
    on_error: str
    alignment: str
    plan: str


def make_jobs(sequences: list[RawSequence], raw: Path, template: Job, name: str) -> list[Job]:
    """Divide the sequences into shards: 32 each, more where that would give more than 256 shards.

    template: a job whose path is the folder to build in.
    """
    shards = min(max(-(-len(sequences) // 32), 1), 256)
    edges = np.linspace(0, len(sequences), shards + 1).astype(int)
    stamps: dict[str, str] = {}
    jobs = []
    for i in range(shards):
        mine = sequences[edges[i] : edges[i + 1]]
        path = template.path / "shards" / shard_name(name, i, shards)
        jobs.append(template._replace(path=path, sequences=mine, plan=_plan(mine, raw, template, stamps)))
    return jobs


def _plan(sequences: list[RawSequence], raw: Path, job: Job, stamps: dict[str, str]) -> str:
    """Hash everything that the records depend on, short of reading the frames: places, sizes, times."""
    root = raw.expanduser().absolute()
    plan = hashlib.sha256(f"{ALIGNMENT} {job.height} {job.alignment}".encode())
    for sequence in sequences:
        words = [*sequence.labels, os.path.relpath(sequence.place, root), sequence.names]
        if sequence.chain:
            archive = str(sequence.chain[0])
            if archive not in stamps:
                stamps[archive] = _stamp(archive)
            words.append(stamps[archive])
        else:
            words += [_stamp(os.path.join(sequence.folder, name)) for name in sequence.files]
        plan.update("\0".join(words).encode("utf-8", "surrogateescape"))
        plan.update(sequence.handles)
    return plan.hexdigest()[:32]


def _stamp(path: str) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return "gone"  # reported where it is read
    return f"{state.st_size} {state.st_mtime_ns}"
