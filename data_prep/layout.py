"""Whose a sequence is: from the names of the folders above it to subject, condition and view."""

import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_prep.archives import SUFFIXES, Chain

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".pbm", ".webp")
SEQUENCE_FILES = (".pkl", ".pickle", ".npy", ".npz")
BY_ARCHIVE = "Silhouette_<view>-<condition>/<subject>"
_OUMVLP = re.compile(r"Silhouette_(\d+)-(\d+)")

Labels = tuple[str, str, str]  # subject, condition, view


class Unit(NamedTuple):
    """Files that make one sequence.

    levels: the names above it, from the outermost to its own, without suffixes; place: where it lies, for a reader;
    chain, folder, names, handles: as in RawSequence. said: the labels in the names of CASIA-B's frames; alone: a
    sequence file that has its folder for itself.
    """

    levels: tuple[str, ...]
    place: str
    chain: Chain
    folder: str
    names: str
    handles: bytes
    said: tuple[str, ...] | None = None
    alone: bool = False


def label_units(units: list[Unit], raw: Path) -> tuple[list[tuple[Labels, Unit]], str]:
    """(subject, condition, view) of every unit, and the layout in words."""
    labelled, layouts, by_depth = [], set(), defaultdict(list)
    for unit in units:
        levels = [i for i, name in enumerate(unit.levels[:-1]) if _OUMVLP.fullmatch(name)]
        if levels:
            view, condition = _OUMVLP.fullmatch(unit.levels[levels[-1]]).groups()
            labelled.append(((unit.levels[levels[-1] + 1], condition, view), unit))
            layouts.add(BY_ARCHIVE)
        else:
            by_depth[len(unit.levels)].append(unit)
    for depth, group in sorted(by_depth.items()):
        if depth < 3 and all(unit.said for unit in group):
            labelled += [(unit.said, unit) for unit in group]
            layouts.add("<subject>-<condition>-<view>-<frame>")
            continue
        kept, words = _levels([unit.levels for unit in group], depth, raw, all(unit.alone for unit in group))
        labelled += [(tuple(kept(unit.levels)), unit) for unit in group]
        layouts.add(words)
    labelled = [(tuple(map(_clean, labels)), unit) for labels, unit in labelled]
    return labelled, " and ".join(sorted(layouts, reverse=True))


def _levels(names: list[tuple[str, ...]], depth: int, raw: Path, alone: bool) -> tuple[Callable, str]:
    """Which three levels of the folders' names are subject, condition and view: a function that picks them."""
    if depth < 3:
        above = [without_suffix(part) for part in raw.parts[1:]]
        if depth and not all(name[-1].isdecimal() for name in names):
            above.append("000")  # no view: <subject>/<condition>/<frame>
            return (lambda n: (*above[:-1], *n, above[-1])[-3:]), "<subject>/<condition>"
        return (lambda n: ("", "", *above, *n)[-3:]), "/".join(["<subject>", "<condition>", "<view>"][3 - depth :])
    columns = list(range(depth))
    varies = [len({n[i] for n in names}) > 1 for i in columns]
    while len(columns) > 3 and not varies[columns[0]]:
        columns.pop(0)  # a folder around everything
    for left, right in zip(range(depth - 1), range(1, depth), strict=True):
        if len(columns) > 3 and right in columns and left in columns and all(n[left] == n[right] for n in names):
            columns.remove(right)  # 001/001/nm-01/000, or 000/000.pkl
    if alone and len(columns) > 3 and len({n[:-1] for n in names}) == len(names):
        columns = columns[:-1] if columns[-1] == depth - 1 else columns  # 001/nm-01/000/<any name>.pkl
    for i in reversed(range(depth)):
        if len(columns) > 3 and i in columns and not varies[i]:
            columns.remove(i)  # 001/nm-01/000/silhouettes
    columns = columns[-3:]
    words = dict.fromkeys(range(depth), "*") | dict(zip(columns, ("<subject>", "<condition>", "<view>"), strict=True))
    return (lambda n: (n[i] for i in columns)), "/".join(words.values())


def without_suffix(name: str) -> str:
    """A name without the suffix of an archive, a picture or a sequence file."""
    lower = name.lower()
    for suffix in (*SUFFIXES, *PICTURES, *SEQUENCE_FILES):
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name


def _clean(name: str) -> str:
    """A label that every program writes the same way: composed Unicode, nothing that isn't text."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return sys.intern(unicodedata.normalize("NFC", text))
