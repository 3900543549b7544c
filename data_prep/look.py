"""Findings of data_prep.check: counts, a table for people, and a contact sheet."""

from collections import Counter
from dataclasses import dataclass, field

import cv2
import numpy as np

from gil_jax.data.findings import SHORT, sequence_names
from gil_jax.data.names import shorten
from gil_jax.data.source import SequenceTable, SilhouetteSource

_BINS = (1, 5, 15, 30, 45, 60, 75, 90, 105, 120, 150, 200, 300)


@dataclass
class Look:
    """Counts and findings of one side, raw or built. lengths counts sequences from each of its keys up to the next."""

    place: str
    sequences: int = 0
    frames: int = 0
    subjects: dict[str, int] = field(default_factory=dict)
    conditions: dict[str, int] = field(default_factory=dict)
    views: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    layout: str = ""
    examples: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    short: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def count_table(place: str, table: SequenceTable) -> Look:
    """Count the sequences and frames of a data set."""
    names = np.array(sequence_names(table), object)
    counts = [
        dict(sorted(Counter(column.tolist()).items())) for column in (table.subjects, table.conditions, table.views)
    ]
    bins = np.searchsorted(_BINS, table.lengths[table.lengths > 0], side="right") - 1
    return Look(
        place,
        len(table.lengths),
        int(table.lengths.sum()),
        *counts,
        lengths={_BINS[b]: int(count) for b, count in enumerate(np.bincount(bins, minlength=len(_BINS)))},
        empty=names[table.lengths == 0].tolist(),
        short=names[(table.lengths > 0) & (table.lengths < SHORT)].tolist(),
    )


def format_look(look: Look) -> str:
    """Format counts and findings as a table."""
    lines = [f"{look.place}", f"  {look.sequences:,} sequences, {look.frames:,} frames {look.layout}".rstrip()]
    lines += [f"    {example}" for example in look.examples]
    for what, counts in (("subjects", look.subjects), ("conditions", look.conditions), ("views", look.views)):
        if counts:
            each = sorted(set(counts.values()))
            spread = f"{each[0]:,} to {each[-1]:,}" if len(each) > 1 else f"{each[0]:,}"
            lines.append(f"  {len(counts):,} {what}, {spread} sequences each: {shorten(counts, 14)}")
            if what != "subjects" and len(each) > 1:
                lines += [f"    {name:>12} {count:>8,}" for name, count in counts.items()]
    most = max(look.lengths.values(), default=0)
    lines.append("  frames  sequences")
    for start, end in zip(_BINS, (*_BINS[1:], None), strict=True):
        count = look.lengths.get(start, 0)
        if count:
            name = f"{start}-{end - 1}" if end else f"{start}+"
            lines.append(f"  {name:>7} {count:>9,} {'#' * -(-40 * count // most)}")
    lines += [f"  WARNING  {warning}" for warning in look.warnings]
    lines += [f"  PROBLEM  {problem}" for problem in look.problems]
    return "\n".join(lines)


def contact_sheet(source: SilhouetteSource, path: str, rows: int = 16, columns: int = 12) -> None:
    """Draw some sequences of the data set, one a line, with frames from beginning to end, into a picture file."""
    size, side = source.height, 150
    picked = sorted(np.random.default_rng(0).choice(len(source), min(rows, len(source)), replace=False))
    sheet = np.full((len(picked) * (size + 2), side + columns * (size + 2)), 64, np.uint8)
    for line, row in enumerate(picked):
        frames, top = source[int(row)], line * (size + 2)
        name = sequence_names(source.table)[row].encode("ascii", "replace").decode()
        cv2.putText(sheet, name[:22], (4, top + size // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.38, 255, 1, cv2.LINE_AA)
        for column, frame in enumerate(np.linspace(0, len(frames) - 1, columns).astype(int)):
            left = side + column * (size + 2)
            sheet[top : top + size, left : left + size] = frames[frame]
    if not cv2.imwrite(path, sheet):
        raise OSError(f"--sheet={path}: can't be written")
