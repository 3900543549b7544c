"""Opening a built data set with its protocol and its split."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from ml_collections import ConfigDict

from gil_jax.data.findings import check_table
from gil_jax.data.protocols import Protocol, Split, load_protocol, load_split
from gil_jax.data.source import SilhouetteSource, find_dataset


@dataclass(frozen=True)
class Dataset:
    """A built data set with its protocol and its split.

    rows_of_subject: for every training subject (class) the rows of its sequences in `source`, int [sequences].
    warnings: findings about the labels, for the user.
    """

    source: SilhouetteSource
    protocol: Protocol
    split: Split
    rows_of_subject: list[np.ndarray]
    warnings: list[str]


def open_dataset(config: ConfigDict) -> Dataset:
    """Open the data set that `config.data` names.

    config: a run's config. Raises ValueError that lists the problems of its labels or names damaged records, and
    FileNotFoundError that says how to build it.
    """
    source = SilhouetteSource(
        find_dataset(config.data.dir, config.data.name, config.data.height), cache=config.data.cache
    )
    table = source.table
    protocol = load_protocol(config.data.protocol)
    split = load_split(config.data.split, protocol, table.subjects.tolist())
    findings = check_table(table, protocol, split)
    if findings.problems:
        raise ValueError(
            f"{source.path} with config.data.split={config.data.split!r} and config.data.protocol="
            f"{config.data.protocol!r}: {'; '.join(findings.problems)}. `python -m data_prep.check` describes them"
        )
    rows = rows_by_subject(table.subjects, split.train)
    return Dataset(source, protocol, split, rows, [f"{source.path}: {text}" for text in findings.warnings])


def rows_by_subject(subjects: Shaped[np.ndarray, " n"], training_subjects: Iterable[str]) -> list[np.ndarray]:
    """Return for every training subject the rows of its sequences in ascending order, int [sequences] each.

    subjects: str, of every sequence. One sort, so that thousands of people cost no more than a few.
    """
    order = np.argsort(subjects, kind="stable")
    names, wanted = subjects[order], np.array(list(training_subjects), str)
    starts, ends = (np.searchsorted(names, wanted, side=side).tolist() for side in ("left", "right"))
    return [order[start:end] for start, end in zip(starts, ends, strict=True)]
