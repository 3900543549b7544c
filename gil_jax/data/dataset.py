"""Opening a built data set with its protocol and its split."""

from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from gil_jax.data.check import check_table
from gil_jax.data.protocols import Protocol, Split, load_protocol, load_split
from gil_jax.data.source import SilhouetteSource, find_dataset


@dataclass(frozen=True)
class Dataset:
    """A built data set, how it is evaluated, and who trains.

    rows_of_subject: for every training subject (class) the rows of its sequences in `source`, int [sequences].
    warnings: findings about the labels that the user should see.
    """

    source: SilhouetteSource
    protocol: Protocol
    split: Split
    rows_of_subject: list[np.ndarray]
    warnings: list[str]


def open_dataset(config: ConfigDict) -> Dataset:
    """Open the data set that `config.data` names.

    config: a run's config. Raises ValueError that lists the problems of its labels, and FileNotFoundError that says
    how to build it.
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
            f"{config.data.protocol!r}: {'; '.join(findings.problems)}. `python -m data_prep.check` tells more"
        )
    rows_of_subject = [np.flatnonzero(table.subjects == subject) for subject in split.train]
    return Dataset(source, protocol, split, rows_of_subject, [f"{source.path}: {text}" for text in findings.warnings])
