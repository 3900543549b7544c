"""Preparation of the first step at the size of OU-MVLP, with made-up labels, and the memory that batches take.

    python -m benchmarks.large_data [--people=10307] [--sequences=267000] [--batches=200]

The labels are read from files as `data_prep.build` writes them; the frames are made up, so nothing of them is read.
"""

import argparse
import json
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from configs.oumvlp_gaitset import get_config
from gil_jax.data.dataset import rows_by_subject
from gil_jax.data.findings import check_table
from gil_jax.data.loader import train_batches
from gil_jax.data.lookups import rows_of_protocol
from gil_jax.data.protocols import OUMVLP, load_split
from gil_jax.data.source import SilhouetteSource


class LabelsAlone(SilhouetteSource):
    """A source that reads labels and makes frames up."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((int(self.table.lengths[index]), self.height, self.height), 255, np.uint8)


def write_labels(folder: Path, people: int, sequences: int) -> None:
    """Write the files of a built data set about random sequences of some people, without records."""
    keys = [(p, c, v) for c in OUMVLP.conditions for p in range(1, people + 1) for v in OUMVLP.views]
    rng = np.random.default_rng(0)
    kept = [keys[i] for i in np.sort(rng.choice(len(keys), min(sequences, len(keys)), replace=False))]
    columns = {
        "subjects": [f"{subject:05d}" for subject, _, _ in kept],
        "conditions": [condition for _, condition, _ in kept],
        "views": [view for _, _, view in kept],
        "lengths": rng.integers(15, 40, len(kept)).tolist(),
    }
    (folder / "metadata.json").write_text(json.dumps({**columns, "height": 64, "fingerprint": "made up"}))
    split = {"name": "sequences", "shardLengths": [str(len(kept))]}
    (folder / "dataset_info.json").write_text(json.dumps({"name": "oumvlp", "splits": [split]}))
    (folder / "features.json").write_text("{}")
    (folder / "oumvlp-sequences.array_record-00000-of-00001").touch()


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=10_307)
    parser.add_argument("--sequences", type=int, default=267_000)
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args()
    config = get_config("triplet").data
    marks: list[tuple[str, float, float]] = []

    def mark(name: str) -> None:
        marks.append((name, time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        write_labels(Path(folder), options.people, options.sequences)
        mark("")
        source = LabelsAlone(folder, check=False)
        mark("labels read")
        split = load_split("official", OUMVLP, source.table.subjects.tolist())
        mark("split")
        findings = check_table(source.table, OUMVLP, split)
        mark("labels checked")
        rows = rows_by_subject(source.table.subjects, split.train)
        mark("rows of every person")
        rows_of_protocol(OUMVLP, split.test, split.train, source.table)
        mark("rows of the evaluation")
        slots = np.arange(config.subjects_per_batch * config.sequences_per_subject)
        batches = train_batches(source, rows, config.to_dict() | {"workers": 0}, 0, 0, options.batches, slots)
        first = next(batches)
        mark("first batch")
        peaks = [_megabytes() for _ in batches]
    for (_, began, busy), (name, ended, used) in pairwise(marks):
        print(f"{name}: {ended - began:.2f} s, {used - busy:.2f} s of CPU")
    print(
        f"{len(source):,} sequences, {len(split.train):,} people train; before the first step "
        f"{marks[-1][1] - marks[0][1]:.2f} s, {marks[-1][2] - marks[0][2]:.2f} s of CPU; batches of "
        f"{first.silhouettes.shape}; peak of the host's memory after 20 batches {peaks[18]:.0f} MB, after "
        f"{len(peaks) + 1} {peaks[-1]:.0f} MB; problems: {'; '.join(findings.problems) or 'none'}"
    )


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
