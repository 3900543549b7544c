"""Embeddings of an evaluation that did not keep them, computed again where checkpoint and data are there."""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from gil_jax.data.lookups import rows_of_protocol
from gil_jax.data.protocols import load_split
from gil_jax.evaluation.store import EmbeddingFile
from gil_jax.model import load
from gil_jax.report.blocks import Missing, command, sentence
from gil_jax.report.context import Run

MOST_SEQUENCES = 3000  # of more, some people are drawn


def embed_again(run: Run) -> EmbeddingFile:
    """Embed the people tested again, or some of them; raises Missing where data or checkpoint are gone.

    about: as `Model.about`, with "data", and "sample": the number of people, where not all are there.
    """
    again = sentence("The embeddings of this evaluation were not kept; {} keeps them.", command(run.command))
    if not run.embeds:
        raise Missing(again)
    try:
        source, step = run.source, run.report["step"]
        model = load(run.folder, step)
        split = load_split(_split_of(run), run.protocol, source.table.subjects.tolist())
    except Missing as missing:
        raise Missing(sentence("{} {}", again, missing.text)) from missing
    except (OSError, ValueError) as error:
        raise Missing(sentence("{} They can't be computed from here: {}", again, error)) from error
    rows = rows_of_protocol(run.protocol, split.test, split.train, source.table)
    drawn = draw_people(source.table.subjects, rows, MOST_SEQUENCES)
    print(f"report: embedding {len(drawn):,} sequences of {run.folder} ...", file=sys.stderr)
    table = model.embed_source(source, drawn, progress=True)
    about = {**model.about, "data": source.fingerprint}
    return EmbeddingFile(table, about if len(drawn) == len(rows) else {**about, "sample": len(set(table.subjects))})


def draw_people(
    subjects: Shaped[np.ndarray, " m"], rows: Int[np.ndarray, " n"], most: int, seed: int = 0
) -> Int[np.ndarray, " k"]:
    """Draw people, with all of their sequences, until there are `most` sequences at most; one person at least."""
    people, person = np.unique(subjects[rows], return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(people))
    total = np.cumsum(np.bincount(person, minlength=len(people))[order])
    chosen = order[: max(int(np.searchsorted(total, most, "right")), 1)]
    return rows[np.isin(person, chosen)]


def _split_of(run: Run) -> str:
    """Find the split of the evaluation: that of the config, which may be a file, where its name is the same."""
    own = str(((run.config or {}).get("data") or {}).get("split"))
    wanted = run.report["split"]
    return own if Path(own).name in (wanted, f"{wanted}.json") else wanted
