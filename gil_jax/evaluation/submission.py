"""The submission file: the nearest gallery people of probes that nobody here can label."""

import csv
import io

import numpy as np
from jax.sharding import Mesh

from gil_jax.data.lookups import Protocol, lookups, names_of
from gil_jax.evaluation.distances import GalleryDistances, smallest
from gil_jax.evaluation.reranking import rerank_rows
from gil_jax.types import EmbeddingTable, RowsOf


def submission(
    table: EmbeddingTable,
    protocol: Protocol,
    metric: str = "euclidean",
    rerank: tuple[int, int, float] | None = None,
    mesh: Mesh | None = None,
) -> str | None:
    """Write one CSV line a probe: its name, then the subjects of the nearest gallery sequences, nearest first.

    A subject may come twice. Subjects that are numbers are written as numbers where the protocol says so. Returns None
    where no probe is unlabelled.
    """
    text, form = io.StringIO(), protocol.submission
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(form.header)
    wanted = len(form.header) - 1
    for lookup in lookups(protocol, table).values():
        if not len(lookup.unlabelled) or not len(lookup.gallery):
            continue
        gallery = GalleryDistances(RowsOf(table.embeddings, lookup.gallery), metric, mesh)
        probes = RowsOf(table.embeddings, lookup.unlabelled)
        blocks = gallery.rows(probes) if rerank is None else rerank_rows(probes, gallery, *rerank)
        labels = _labels(table, lookup.unlabelled, form.label)
        for place, block in blocks:
            nearest, _ = smallest(block, min(wanted, block.shape[1]))
            people = table.subjects[lookup.gallery[nearest]]
            for label, line in zip(labels[place], people.tolist(), strict=True):
                lines.writerow([label, *(str(int(s)) if form.as_numbers and s.isdecimal() else s for s in line)])
    return text.getvalue() if text.getvalue().count("\n") > 1 else None


def _labels(table: EmbeddingTable, rows: np.ndarray, column: str) -> list[str]:
    if column == "sequence":
        return names_of(table, rows)
    return (table.views if column == "view" else table.conditions)[rows].tolist()
