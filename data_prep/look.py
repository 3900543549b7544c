"""Findings of data_prep.check: counts, a table for people, and a contact sheet."""

from collections import Counter
from dataclasses import dataclass, field

import cv2
import numpy as np

from gil_jax.data.findings import SHORT, sequence_names
from gil_jax.data.names import shorten
from gil_jax.data.source import SequenceTable, SilhouetteSource
from gil_jax.lettering import MUTED, caption, measure, shorten_to, write

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
    """Draw some sequences of the data set, one a line, with frames from beginning to end, into a picture file.

    Raises OSError where it can't be written.
    """
    size, side, gap = source.height, 190, 2
    picked = sorted(np.random.default_rng(0).choice(len(source), min(rows, len(source)), replace=False))
    sheet = np.full((len(picked) * (size + gap), side + columns * (size + gap)), 64, np.uint8)
    for line, row in enumerate(picked):
        frames, top = source[int(row)], line * (size + gap)
        write(sheet, shorten_to(sequence_names(source.table)[row], side - 8), (4, top + size // 2 - 16))
        write(sheet, f"{len(frames)} frames", (4, top + size // 2), colour=MUTED)
        for column, frame in enumerate(np.linspace(0, len(frames) - 1, columns).astype(int)):
            left = side + column * (size + gap)
            sheet[top : top + size, left : left + size] = frames[frame]
    heads = np.full((20, sheet.shape[1]), 64, np.uint8)
    write(heads, "subject/condition/view", (4, 3), colour=MUTED)
    write(heads, "first frame", (side, 3), colour=MUTED)
    write(heads, "last frame", (sheet.shape[1] - measure("last frame") - 4, 3), colour=MUTED)
    how = "all of them" if len(picked) == len(source) else "drawn at random, the same ones every time"
    head = caption(
        f"{source.path.parent.parent.name}: {len(picked)} of {len(source):,} sequences, {how}",
        f"A row is a sequence; its columns are {columns} frames of it, evenly spaced, aligned to {size} x {size} "
        "pixels. Good: one upright white body on black, complete, and the same person walking all along.",
        sheet.shape[1],
    )
    if not cv2.imwrite(path, np.vstack([head, heads, sheet])):
        raise OSError(f"--sheet={path}: can't be written")
