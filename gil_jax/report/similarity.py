"""Similarity matrices of sequences ordered by person (the paper's Figure 5), and how well people are apart in them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.data.lookups import Labels, Protocol, lookups

MOST_PEOPLE = 24
MOST_SEQUENCES = 4  # of a person


class Similarity(NamedTuple):
    """Cosines of sequences, the mean over parts, and what they come to; None without a pair of the kind.

    within, between: mean cosine of two different sequences of one person, of two people. alignment: mean |u - v|^2 of
    pairs of one person; uniformity: log mean exp(-2 |u - v|^2) of all pairs; u, v normalised, the mean over parts (Wang
    and Isola, ICML 2020).
    """

    cosines: Float[np.ndarray, "m m"]
    within: float | None
    between: float | None
    alignment: float | None
    uniformity: float | None


def choose_subset(
    table: Labels, protocol: Protocol, people: int = MOST_PEOPLE, sequences: int = MOST_SEQUENCES
) -> Int[np.ndarray, " m"]:
    """Choose gallery sequences of one view, in the order of people: at most `sequences` of each.

    The view is that with the most people of two sequences or more, and of equal ones the middle one. Where there is
    nobody with two in a view, or a view has one person alone, sequences of all views are taken. People are evenly
    spaced among the sorted subjects.
    """
    found = lookups(protocol, table)
    rows = np.unique(np.concatenate([lookup.gallery for lookup in found.values()]))
    views = np.unique(table.views[rows])
    counts = [_people(table.subjects[rows[table.views[rows] == view]]) for view in views]
    best = [i for i, count in enumerate(counts) if count == max(counts)]
    if best and counts[best[0]][0] > 0 and counts[best[0]][1] > 1:
        rows = rows[table.views[rows] == views[best[len(best) // 2]]]
    every = np.unique(table.subjects[rows])
    chosen = every[np.linspace(0, len(every) - 1, min(people, len(every))).astype(int)]
    picked = []
    for person in chosen.tolist():
        own = rows[table.subjects[rows] == person]
        own = own[np.lexsort((table.views[own], table.conditions[own]))]
        picked.append(own[np.linspace(0, len(own) - 1, min(sequences, len(own))).astype(int)])
    return np.concatenate(picked) if picked else np.zeros(0, np.int64)


def _people(subjects: Shaped[np.ndarray, " n"]) -> tuple[int, int]:
    """Number of people of two sequences or more, and of all."""
    _, counts = np.unique(subjects, return_counts=True)
    return int((counts > 1).sum()), len(counts)


def compare_sequences(embeddings: Shaped[np.ndarray, "m p d"], subjects: Shaped[np.ndarray, " m"]) -> Similarity:
    """Compute the cosines of all pairs of finite embeddings; a part that is all zeros has cosine 0."""
    rows = np.asarray(embeddings, np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    parts = np.clip(np.einsum("ipd,jpd->pij", rows, rows, optimize=True), -1, 1)
    other = ~np.eye(len(rows), dtype=bool)
    same = (subjects[:, None] == subjects) & other
    apart = 2 - 2 * parts
    cosines = parts.mean(axis=0)
    return Similarity(
        cosines,
        float(cosines[same].mean()) if same.any() else None,
        float(cosines[other & ~same].mean()) if (other & ~same).any() else None,
        float(apart[:, same].mean()) if same.any() else None,
        float(np.log(np.exp(-2 * apart[:, other]).mean(axis=1)).mean()) if other.any() else None,
    )
