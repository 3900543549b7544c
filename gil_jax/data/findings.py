"""Findings from labels and lengths alone: people who are missing, can't be trained on, or can't be identified."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from gil_jax.data.lookups import Lookup, Protocol, compared_views, lookups, names_of
from gil_jax.data.names import shorten
from gil_jax.data.protocols import Split
from gil_jax.data.source import SequenceTable

SHORT = 5  # frames; a sequence with fewer is worth a warning


class Findings(NamedTuple):
    """Findings about a data set: problems make results wrong or impossible, warnings are good to know."""

    problems: list[str]
    warnings: list[str]


def check_table(table: SequenceTable, protocol: Protocol, split: Split | None = None) -> Findings:
    """Check the labels and lengths of a data set, and the training and test people of a split of it.

    Problems: duplicate and empty sequences, people on both sides of the split, training people without a sequence,
    sequences that are gallery and probe at once, no gallery, no probes. Warnings: short sequences, probes of people
    without a gallery, and gallery views that enrol fewer people than are looked up in them.
    """
    problems, warnings = [], []
    names = sequence_names(table)
    twice = [name for name, count in Counter(names).items() if count > 1]
    _add(problems, "sequences that are there twice", twice)
    _add(problems, "empty sequences", _where(names, table.lengths == 0))
    _add(
        warnings,
        f"sequences of fewer than {SHORT} frames",
        _where(names, (table.lengths > 0) & (table.lengths < SHORT)),
    )
    if split is None:
        return Findings(problems, warnings)
    has_frames = set(table.subjects[table.lengths > 0].tolist())
    _add(problems, "people who train and are tested", sorted(set(split.train) & set(split.test)))
    _add(problems, "people who train without a sequence", sorted(set(split.train) - has_frames))
    if split.test:
        tested = np.isin(table.subjects, split.test)
        people = SequenceTable(
            *(column[tested] for column in (table.subjects, table.conditions, table.views, table.lengths))
        )
        _check_lookups(people, protocol, problems, warnings)
    return Findings(problems, warnings)


def _check_lookups(table: SequenceTable, protocol: Protocol, problems: list[str], warnings: list[str]) -> None:
    """Check the gallery and the probes among the sequences of the people tested."""
    try:
        found = lookups(protocol, table)
    except ValueError as error:
        problems.append(str(error))
        return
    if not any(len(lookup.gallery) for lookup in found.values()):
        wanted = list(protocol.gallery) or "sequences besides the probes"
        problems.append(f"no gallery: none of the {len(set(table.subjects.tolist()))} people tested has {wanted}")
    for name, (probes, gallery, unlabelled) in found.items():
        if not len(probes) and not len(unlabelled):
            warnings.append(f"no probes {name}: nobody tested has {list(protocol.probes[name])}")
        lost = probes[~np.isin(table.subjects[probes], table.subjects[gallery])]
        _add(warnings, f"probes {name} of people without a gallery", names_of(table, lost))
    if protocol.compare == "apart":
        thin = {text: None for lookup in found.values() for text in _thin_views(table, protocol, lookup)}
        _add(
            warnings,
            "gallery views that enrol fewer people than are looked up in them, so that their rank-1 says little "
            '(views that differ by sequence or camera: "views": "together" or "gallery_together" in the protocol)',
            list(thin),
        )
    if not any(len(probes) or len(unlabelled) for probes, _, unlabelled in found.values()):
        problems.append("no probes at all: the people tested have none of the protocol's conditions")


def _thin_views(table: SequenceTable, protocol: Protocol, lookup: Lookup) -> list[str]:
    """Describe the gallery views that lack people of the probes, where views are compared apart."""
    if not len(lookup.gallery):
        return []
    views, view = np.unique(compared_views(protocol, table.views[lookup.gallery]), return_inverse=True)
    people, person = np.unique(table.subjects[lookup.gallery], return_inverse=True)
    looked_up = np.isin(people, table.subjects[lookup.probes])  # people without a gallery have a warning of their own
    pairs = np.unique(view * len(people) + person)
    pairs = pairs[looked_up[pairs % len(people)]]
    enrolled = np.bincount(pairs // len(people), minlength=len(views)).tolist()
    wanted = int(looked_up.sum())
    return [f"{view} ({n:,} of {wanted:,})" for view, n in zip(views.tolist(), enrolled, strict=True) if n < wanted]


def check_published(table: SequenceTable, protocol: Protocol) -> Findings:
    """Compare the labels with those of the published data set: people, conditions, views, and all their sequences."""
    problems, warnings = [], []
    for what, wanted, held in (
        ("people", protocol.subjects, table.subjects),
        ("conditions", protocol.conditions, table.conditions),
        ("views", protocol.views, table.views),
    ):
        if wanted:
            present = set(held.tolist())
            _add(problems, f"missing {what}, of {len(wanted)} published", sorted(set(wanted) - present))
            _add(problems, f"{what} that the published data set has not", sorted(present - set(wanted)))
    names = set(sequence_names(table))
    people = sorted(set(table.subjects.tolist()) & set(protocol.subjects))
    every = [f"{s}/{c}/{v}" for s in people for c in protocol.conditions for v in protocol.views]
    _add(
        warnings,
        f"missing sequences, of {len(every):,} published ones of these people",
        [n for n in every if n not in names],
    )
    return Findings(problems, warnings)


def sequence_names(table: SequenceTable) -> list[str]:
    """Spell subject/condition/view of every sequence."""
    columns = (table.subjects.tolist(), table.conditions.tolist(), table.views.tolist())
    return ["/".join(labels) for labels in zip(*columns, strict=True)]


def _where(names: list[str], mask: np.ndarray) -> list[str]:
    return [names[i] for i in np.flatnonzero(mask)]


def _add(findings: list[str], what: str, names: list[str]) -> None:
    if names:
        findings.append(f"{len(names):,} {what}: {shorten(names)}")
