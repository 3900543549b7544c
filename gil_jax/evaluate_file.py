"""Evaluation of embeddings that are kept in a file, or that are computed into one."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from gil_jax.data.lookups import Protocol, lookups, rows_of_protocol
from gil_jax.data.names import shorten
from gil_jax.data.protocols import PROTOCOLS, Split, load_protocol, load_split
from gil_jax.evaluation.measures import bootstrap, headline, interval, is_square, summarize
from gil_jax.evaluation.measures import cells as cells_of
from gil_jax.evaluation.ranking import Ranking, rank
from gil_jax.evaluation.report import evaluate_table
from gil_jax.evaluation.store import EmbeddingFile, load_embeddings
from gil_jax.people import check_unseen, describe_tested
from gil_jax.types import EmbeddingTable, RowsOf


def evaluate(
    embeddings: str | os.PathLike | EmbeddingFile,
    protocol: str | Protocol = "",
    split: str = "",
    metric: str = "euclidean",
    rerank: tuple[int, int, float] | None = None,
    samples: int = 1000,
) -> dict[str, Any]:
    """Evaluate a file of embeddings.

    embeddings: a file that `embed_to_file` or `python -m gil_jax embed` wrote. protocol: its name, a JSON file or a
    Protocol; split: "lt", "first-N" or a JSON file; where they are empty, `choose_settings` finds them. Without a split
    everybody is tested or, where the file says who trained, everybody else. Returns the record of `evaluate_table`,
    with "dataset", "split", "step", "people", "note" on who they are, and "chosen": how protocol and split were found.
    Raises ValueError where people are tested who trained, and where nothing is a probe.
    """
    held = embeddings if isinstance(embeddings, tuple) else load_embeddings(embeddings)
    protocol, split, chosen = choose_settings(held, protocol, split)
    rows, tested, note, split_name = choose_people(held, protocol, split)
    table = take_rows(held.table, rows)
    if not any(len(found.probes) or len(found.unlabelled) for found in lookups(protocol, table).values()):
        conditions = shorten(sorted(set(table.conditions.tolist())))
        raise ValueError(
            f"protocol {protocol.name}: none of its probes is among these sequences (conditions {conditions}): give "
            "another --protocol, a name or a file"
        )
    report = evaluate_table(table, None, protocol, metric, rerank, samples)
    return {
        "dataset": Path(held.about.get("dataset", "")).name or "data",
        "split": split_name,
        "step": held.about.get("step", 0),
        "people": len(tested),
        "note": note,
        "chosen": chosen,
        **report,
    }


def compare(
    first: str | os.PathLike | EmbeddingFile,
    second: str | os.PathLike | EmbeddingFile,
    protocol: str | Protocol = "",
    split: str = "",
    metric: str = "euclidean",
    rerank: tuple[int, int, float] | None = None,
    samples: int = 1000,
) -> dict[str, dict]:
    """Compare the rank-1 of two files of embeddings of the same sequences, with a paired bootstrap over people.

    protocol, split: as in `evaluate`, from the first file where they are empty. Returns {probe set: {"first", "second",
    "difference": second - first, "interval": 95 % of the difference}}, percent.
    """
    both = [e if isinstance(e, tuple) else load_embeddings(e) for e in (first, second)]
    protocol, split, _ = choose_settings(both[0], protocol, split)
    rankings = []
    for held in both:
        held = held._replace(table=_in_order(held.table))
        rows, *_ = choose_people(held, protocol, split)
        rankings.append(rank(take_rows(held.table, rows), protocol, metric, rerank))
    result = {}
    for name in rankings[0]:
        pair = [ranking[name] for ranking in rankings]
        if len(pair[0].rows):
            result[name] = compare_rankings(pair, protocol.counts, samples)
    return result


def compare_rankings(pair: list[Ranking], counts: str, samples: int = 1000) -> dict:
    """Compare the rank-1 of two rankings of the same probes, see `compare`; counts: of the protocol."""
    before, after = (headline(summarize(cells_of(r, "rank1", counts), is_square(r))) for r in pair)
    draws = bootstrap(pair, counts, samples)
    difference = None if before is None or after is None else after - before
    return {"first": before, "second": after, "difference": difference, "interval": interval(draws[1] - draws[0])}


def choose_settings(held: EmbeddingFile, protocol: str | Protocol, split: str) -> tuple[Protocol, str, str]:
    """Choose protocol and split where they are not given: (protocol, split, a sentence on where they come from).

    Those of the workdir that the embeddings are of, where these are its data; else the protocol of the data set's name,
    the one of the workdir, or casia_b. The sentence is empty where both are given.
    """
    about, said = held.about, []
    trained = (about.get("trained") or [{}])[0]
    dataset, workdir = Path(about.get("dataset", "")).name, trained.get("workdir", "")
    same_data = trained.get("fingerprint") == about.get("data") or trained.get("name") == dataset != ""
    theirs = about.get("protocol", "")
    if not protocol:
        if theirs and (same_data or dataset not in PROTOCOLS):
            protocol, reason = theirs, f"from {workdir}, whose network computed the embeddings"
        elif dataset in PROTOCOLS:
            protocol, reason = dataset, "by the name of the data set"
        else:
            protocol, reason = "casia_b", "the file names no other"
        said.append(f"protocol {protocol}: {reason}")
    if not split and same_data and protocol == theirs and about.get("split"):
        split = about["split"]
        if split.endswith(".json") and not Path(split).is_file():
            said.append(f"split: everybody who did not train, for {split} of {workdir} is gone")
            split = ""
        else:
            said.append(f"split {split}: from {workdir}")
    return load_protocol(protocol) if isinstance(protocol, str) else protocol, split, "; ".join(said)


def choose_people(
    held: EmbeddingFile, protocol: Protocol, split: str
) -> tuple[Int[np.ndarray, " n"], list[str], str, str]:
    """Choose who is tested: (rows, their subjects, a note on who they are, the name of the split).

    Raises ValueError where the file says that some of them trained.
    """
    present = sorted(set(held.table.subjects.tolist()))
    trained, fingerprint = held.about.get("trained"), held.about.get("data", "")
    name = Path(held.about.get("dataset", "")).name
    same_data = [data for data in trained or [] if data["fingerprint"] == fingerprint and data["train"] is not None]
    people = {person for data in same_data for person in data["train"]}
    if split:
        chosen = load_split(split, protocol, present)
    else:
        tested = tuple(person for person in present if person not in people)
        chosen = Split("all" if len(tested) == len(present) else "not-trained", tuple(sorted(people)), tested)
    if not chosen.test:
        raise ValueError("everybody in this file trained the network: there is nobody to test")
    if trained is None:
        unchecked = ["the file does not say who trained"]
    else:
        unchecked = check_unseen(trained, name, fingerprint, chosen)
    rows = rows_of_protocol(protocol, chosen.test, chosen.train, held.table)
    return rows, list(chosen.test), describe_tested(unchecked), chosen.name


def take_rows(table: EmbeddingTable, rows: Int[np.ndarray, " n"]) -> EmbeddingTable:
    """Take some rows of a table; embeddings are read when they are compared."""
    if len(rows) == len(table.subjects) and np.array_equal(rows, np.arange(len(rows))):
        return table
    return EmbeddingTable(RowsOf(table.embeddings, rows), *(column[rows] for column in table[1:]))


def _in_order(table: EmbeddingTable) -> EmbeddingTable:
    """Sort by labels, so that two files of the same sequences agree row by row."""
    order = np.lexsort((table.views, table.conditions, table.subjects))
    return take_rows(table, order)
