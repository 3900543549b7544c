"""Figures of an evaluation as pictures: rank-1 by pair of views, and similarities of sequences."""

import numpy as np
from jaxtyping import Float, UInt8

from gil_jax.evaluation.measures import headline
from gil_jax.lettering import INK, MUTED, PAPER, SIZE, caption, measure, shorten_to, write
from gil_jax.types import EmbeddingTable

# Viridis (Smith and van der Walt, 2015): even in brightness, and safe for the colour-blind; between these it is linear.
_COLOURS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)
_NOTHING = 60  # grey of a cell that compares nothing
_CELL = (24, 44)  # rows and columns of a cell with a number
_MOST_CELLS = 40  # views whose numbers are written
PEOPLE, SEQUENCES = 8, 8  # of a similarity matrix, at most
_SIDE = 8  # pixels of a similarity
_HEAD, _MARGIN, _MOST_SIDE, _LEAST_WIDTH = 20, 6, 160, 480  # pixels around the cells


def draw_heat_map(report: dict, probe_set: str) -> UInt8[np.ndarray, "h w 3"]:
    """Draw rank-1 of every pair of views, probe views down and gallery views across.

    report: of `Evaluator.run`.
    """
    summary, views = report["rank1"][probe_set], report["views"]
    matrix = np.array([[np.nan if x is None else x for x in line] for line in summary["matrix"]], float)
    quoted = headline(summary)
    title = f"{report['dataset']}, step {report['step']}, probes {probe_set}: rank-1 by pair of views"
    text = (
        f"A row is a view of the probes, a column a view of the gallery; percent of the probes whose nearest gallery "
        f"sequence is of the same person. Quoted: {'-' if quoted is None else f'{quoted:.2f}'}. "
        f"Brighter is better, from 0 to 100; grey: nothing to compare."
    )
    if max(matrix.shape) > _MOST_CELLS:
        return _frame(_draw_cells(matrix / 100, (_SIDE, _SIDE)), [], [], title, text)
    words = [["" if np.isnan(x) else f"{x:.0f}" for x in line] for line in matrix]
    rows = [(view, _CELL[0]) for view in views]
    columns = [(view, _CELL[1]) for view in (views if matrix.shape[1] == len(views) else ["all"])]
    return _frame(_draw_cells(matrix / 100, _CELL, words), rows, columns, title, text)


def draw_similarity(table: EmbeddingTable, dataset: str, step: int) -> UInt8[np.ndarray, "h w 3"]:
    """Draw cosines of sequences with each other, sorted by person, mean over the parts: the paper's Figure 5."""
    rows, people = _choose(table)
    cosines = similarity(np.asarray(table.embeddings[rows], np.float32))
    others = cosines[~np.eye(len(cosines), dtype=bool)]
    low, high = (float(others.min()), float(others.max())) if others.size else (0.0, 1.0)
    picture = _draw_cells((cosines - low) / max(high - low, 1e-12), (_SIDE, _SIDE))
    ends = np.cumsum([count for _, count in people])
    for end in ends[:-1].tolist():
        picture[end * _SIDE, :] = picture[:, end * _SIDE] = 255
    title = f"{dataset}, step {step}: similarity of walks of {len(people)} people tested"
    text = (
        f"Rows and columns are the same {len(rows)} sequences, person by person between white lines: the first people "
        f"by name, up to {SEQUENCES} sequences spread over those of each. A cell is the cosine of two embeddings, mean "
        f"over the parts, from {low:.3f} (dark) to {high:.3f} (bright). Good: bright squares on the diagonal, dark "
        "elsewhere."
    )
    places = [(name, count * _SIDE) for name, count in people]
    return _frame(picture, places, places, title, text)


def similarity(embeddings: Float[np.ndarray, "n p d"]) -> Float[np.ndarray, "n n"]:
    """Cosines of the sequences, means over the parts."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)
    return np.einsum("ipd,jpd->ij", unit, unit) / unit.shape[1]


def _choose(table: EmbeddingTable) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Choose rows, evenly over the sequences of each person; also the people with their numbers of rows."""
    rows, people = [], []
    for subject in np.unique(table.subjects)[:PEOPLE].tolist():
        own = np.flatnonzero(table.subjects == subject)
        own = own[np.unique(np.linspace(0, len(own) - 1, SEQUENCES).astype(int))]
        rows.append(own)
        people.append((subject, len(own)))
    return np.concatenate(rows), people


def _draw_cells(
    shares: Float[np.ndarray, "r c"], cell: tuple[int, int], words: list[list[str]] | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a cell for each share of 0 to 1, NaN grey, with a word in it."""
    place = np.clip(np.nan_to_num(shares), 0, 1) * (len(_COLOURS) - 1)
    low = np.minimum(place.astype(int), len(_COLOURS) - 2)
    between = (place - low)[..., None]
    colours = np.rint(_COLOURS[low] * (1 - between) + _COLOURS[low + 1] * between).astype(np.uint8)
    colours[np.isnan(shares)] = _NOTHING
    picture = np.repeat(np.repeat(colours, cell[0], axis=0), cell[1], axis=1)
    for row, line in enumerate(words or []):
        for column, word in enumerate(line):
            left = column * cell[1] + (cell[1] - measure(word)) // 2
            colour = (0, 0, 0) if shares[row, column] > 0.6 else (255, 255, 255)
            write(picture, word, (left, row * cell[0] + 4), colour=colour)
    return picture


def _frame(
    cells: UInt8[np.ndarray, "h w 3"],
    rows: list[tuple[str, int]],
    columns: list[tuple[str, int]],
    title: str,
    text: str,
) -> UInt8[np.ndarray, "height width 3"]:
    """Put names to the left and above, and a caption on top. rows, columns: names with the pixels they go over."""
    side = min(max([_MARGIN, *(measure(name) + 2 * _MARGIN for name, _ in rows)]), _MOST_SIDE)
    width = max(side + cells.shape[1] + _MARGIN, _LEAST_WIDTH)
    body = np.full((_HEAD + len(cells) + _MARGIN, width, 3), PAPER, np.uint8)
    body[_HEAD : _HEAD + len(cells), side : side + cells.shape[1]] = cells
    top = _HEAD
    for name, height in rows:
        short = shorten_to(name, side - 2 * _MARGIN)
        write(body, short, (side - _MARGIN - measure(short), top + (height - SIZE) // 2 - 2), colour=INK)
        top += height
    left = side
    for name, pixels in columns:
        short = shorten_to(name, pixels - 2)
        write(body, short, (left + (pixels - measure(short)) // 2, _HEAD - SIZE - 6), colour=MUTED)
        left += pixels
    return np.vstack([np.repeat(caption(title, text, width)[..., None], 3, axis=-1), body])
