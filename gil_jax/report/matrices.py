"""The section of similarity matrices: cosines of sequences ordered by person, of all runs on one scale."""

import base64
import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped
from markupsafe import Markup

from gil_jax.data.lookups import Labels
from gil_jax.report.blocks import Block, Figure, Missing, Note, Section, Table, name, sentence
from gil_jax.report.context import Context, Run
from gil_jax.report.embedding_map import is_finite
from gil_jax.report.fragments import count, fill
from gil_jax.report.similarity import Similarity, choose_subset, compare_sequences

SIDE = 420  # units of a picture's side
TITLE = "Who looks like whom"
_TEXT = (
    "Rows and columns are the same walks, ordered by person; lines part people. A cell is the cosine of two embeddings "
    "(the mean over parts): 1 for the same direction. Look for bright squares along the diagonal, a person's walks "
    "with each other, on a dark ground. A bright square away from it is two people who look alike to the network."
)
_TEXT_AFTER = "The same walks in the same order, on the same scale of colours."
_NOTE = (
    "Cosines: the mean over pairs of different walks of one person, and of two people; the larger the gap, the better. "
    "Alignment: mean squared distance of a person's normalised embeddings (smaller is tighter). Uniformity: how evenly "
    "all embeddings spread over the sphere (smaller is more even). All numbers are of the walks shown."
)


class Shown(NamedTuple):
    """The matrix of a run with the labels of its rows. left_out: sequences without a finite embedding."""

    run: Run
    matrix: Similarity
    subjects: Shaped[np.ndarray, " m"]
    conditions: Shaped[np.ndarray, " m"]
    views: Shaped[np.ndarray, " m"]
    left_out: int


def matrices(context: Context) -> Section:
    """Draw a matrix for every run, of the same sequences where all runs have them."""
    blocks: list[Block] = []
    shown: list[Shown] = []
    for run in context.runs:
        try:
            shown.append(_compare(run, shown[0] if shown else None))
        except Missing as missing:
            blocks.append(Note(sentence("{}: {}", name(run.name), missing.text), "missing"))
    if not shown:
        return Section("similarity", TITLE, "", blocks)
    lowest = min(float(entry.matrix.cosines.min()) for entry in shown)
    low = math.floor(lowest * 50) / 50
    figures = [
        _draw(entry, f"similarity-{place}", min(low, 0.98), _TEXT_AFTER if place else _TEXT)
        for place, entry in enumerate(shown)
    ]
    if left_out := sum(entry.left_out for entry in shown):
        blocks.append(Note(f"{left_out:,} sequences have no finite embedding and are left out.", "missing"))
    text = "Similarities of enrolled walks of people whom the network never saw in training"
    text += ", of all runs on the same scale." if len(shown) > 1 else "."
    return Section("similarity", TITLE, text, [_numbers(shown), *figures, *blocks])


def _compare(run: Run, first: Shown | None) -> Shown:
    table = run.embeddings.table
    rows = choose_subset(table, run.protocol) if first is None else _same_sequences(table, first)
    if not len(rows):
        raise Missing(
            "There are no enrolled sequences." if first is None else "It has none of the walks of the first run."
        )
    vectors = np.asarray(table.embeddings[rows])
    finite = is_finite(vectors)
    rows, left_out = rows[finite], int((~finite).sum())
    if not len(rows):
        raise Missing("None of the embeddings is finite: there is nothing to compare.")
    labels = table.subjects[rows], table.conditions[rows], table.views[rows]
    return Shown(run, compare_sequences(vectors[finite], labels[0]), *labels, left_out)


def _same_sequences(table: Labels, first: Shown) -> Int[np.ndarray, " m"]:
    columns = (table.subjects.tolist(), table.conditions.tolist(), table.views.tolist())
    row_of = {labels: row for row, labels in enumerate(zip(*columns, strict=True))}
    wanted = zip(first.subjects.tolist(), first.conditions.tolist(), first.views.tolist(), strict=True)
    return np.array([row_of[labels] for labels in wanted if labels in row_of], np.int64)


def _numbers(shown: list[Shown]) -> Table:
    rows = []
    for run, matrix, subjects, *_ in shown:
        gap = None if matrix.within is None or matrix.between is None else matrix.within - matrix.between
        counts = len(set(subjects.tolist())), len(subjects)
        rows.append([name(run.name), *counts, matrix.within, matrix.between, gap, matrix.alignment, matrix.uniformity])
    columns = ["run", "people", "walks", "cosine within", "cosine between", "gap", "alignment", "uniformity"]
    return Table("Similarity within and between people", columns, rows, digits=3, note=_NOTE)


def _draw(shown: Shown, identifier: str, low: float, text: str) -> Figure:
    people, starts, counts = np.unique(shown.subjects, return_index=True, return_counts=True)
    cell = SIDE / len(shown.subjects)
    order = np.argsort(starts)
    tags = [(people[i], round(float(starts[i] + counts[i] / 2) * cell, 1)) for i in order.tolist()]
    alt = describe_matrix(shown)
    body = fill(
        "matrix.html.j2",
        alt=Markup(alt).striptags(),
        side=SIDE,
        picture=_encode(colour(shown.matrix.cosines, low)),
        bar=_encode(colour(np.linspace(1, low, 256)[:, None], low)),
        lines=[round(float(starts[i] * cell), 1) for i in order.tolist()[1:]],
        tags=tags,
        font=round(min(13.0, max(SIDE / len(people), 6.0)), 1),
        ticks=[(f"{low + (1 - low) * i / 4:.3f}", round(SIDE * (1 - i / 4), 1)) for i in range(5)],
    )
    views = sorted(set(shown.views.tolist()))
    where = sentence("view {}", name(views[0])) if len(views) == 1 else f"{len(views)} views"
    numbers = count(len(shown.subjects), "walk", "walks"), count(len(people), "person", "people")
    title = sentence("{}: {} of {}, {}", name(shown.run.name), *numbers, where)
    return Figure(identifier, title, text, body, alt)


def describe_matrix(shown: Shown) -> Markup:
    """Give the mean cosines, and the two people who are most alike."""
    matrix, subjects = shown.matrix, shown.subjects
    if matrix.between is None:
        within = "" if matrix.within is None else f" The mean cosine of two walks is {matrix.within:.3f}."
        return sentence("Walks of one person, {}.{}", name(subjects[0]), within)
    people, first, second, value = _most_alike(matrix.cosines, subjects)
    pair = sentence("Most alike are {} and {}, with {} on average", name(people[first]), name(people[second]), value)
    if matrix.within is None:
        return sentence("Mean cosine between people {}. {}.", f"{matrix.between:.3f}", pair)
    return sentence(
        "Mean cosine {} within and {} between people. {}.", f"{matrix.within:.3f}", f"{matrix.between:.3f}", pair
    )


def _most_alike(
    cosines: Float[np.ndarray, "m m"], subjects: Shaped[np.ndarray, " m"]
) -> tuple[Shaped[np.ndarray, " k"], int, int, str]:
    people, place, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    member = (place == np.arange(len(people))[:, None]) / counts[:, None]
    means = member @ cosines @ member.T
    means[np.tril_indices(len(people))] = -np.inf
    first, second = divmod(int(np.argmax(means)), len(people))
    return people, first, second, f"{means[first, second]:.3f}"


def colour(values: Float[np.ndarray, "h w"], low: float) -> Shaped[np.ndarray, "h w 3"]:
    """Colour values from `low` to 1 by viridis, which the colour-blind and a black-and-white print show too."""
    scaled = np.clip((values - low) / max(1 - low, 1e-9), 0, 1)
    return cv2.applyColorMap(np.round(scaled * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)


def _encode(picture: Shaped[np.ndarray, "h w 3"]) -> str:
    _, data = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return base64.b64encode(data.tobytes()).decode()
