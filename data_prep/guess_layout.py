"""Find the layout of raw data from the names alone, by rules that docs/data.md states, or refuse with the options."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_prep.faults import printable
from data_prep.file_kinds import without_suffix
from data_prep.pattern import LABELS, Pattern
from data_prep.units import Unit

_DIGITS = r"\d+"
BY_ARCHIVE = Pattern("**/Silhouette_<view>-<condition>/<subject>", {"view": _DIGITS, "condition": _DIGITS})
BY_FRAME = Pattern(
    "**/<subject>-<condition>-<view>-<frame>", {"condition": "[^/]+", "view": "[^/-]+", "frame": _DIGITS}
)
_SIDES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "gallery", "probe", "query"}
_SIDES |= {"distractor", "pretrain", "trainset", "testset"}
_DATE = re.compile(r"(?<!\d)(19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d(?!\d)")
_FEW, _MANY = 10, 10  # so few outermost names over so many times as many below are no people


class LayoutError(ValueError):
    """The layout of raw data is not clear; the message names the options that make it clear."""


def guess_pattern(units: Sequence[Unit], levels: list[tuple[str, ...]], raw: Path) -> Pattern:
    """The pattern that all sequences follow. levels: of each unit. Raises LayoutError where more than one may be meant.

    OU-MVLP's Silhouette_<view>-<condition> is known. Folders of three levels count, whatever frames are called; with
    fewer, or where the folders leave a choice, the names of the frames count if they agree with the folders.
    """
    by_archive = [BY_ARCHIVE.match(names) is not None for names in levels]
    if 2 * sum(by_archive) > len(levels):
        return BY_ARCHIVE
    agree, conflict = _frames_against_folders(units, levels)
    try:
        pattern = _by_folders(levels, raw)
    except LayoutError:
        if agree:
            return BY_FRAME
        raise
    if all(f"<{label}>" in pattern.text for label in LABELS):
        return pattern
    if conflict:
        text = pattern.text
        raise _refuse(raw, levels, "the names of the frames say other labels than their folders", [BY_FRAME.text, text])
    return BY_FRAME if agree else pattern


def _frames_against_folders(units: Sequence[Unit], levels: list[tuple[str, ...]]) -> tuple[bool, bool]:
    """Whether the labels in the names of the frames agree with the folders, and whether they contradict them.

    Times are no labels, and numbers alone are only where a folder confirms them.
    """
    groups = {said for unit in units for said in unit.said}
    if not groups or None in groups or any(unit.is_file for unit in units):
        return False, False
    said = {group for group in groups if group}
    if any(_DATE.search("-".join(group)) for group in said):
        return False, False
    common = set.intersection(*map(set, levels))
    rests = [[name for name in names if name not in common] for names in levels]
    agree = all(
        _within(rest, group) or _within(list(group), names)
        for unit, names, rest in zip(units, levels, rests, strict=True)
        for group in unit.said
        if group
    )
    confirmed = any(rests) or any(set(group) & common for group in said)
    numbers = all("".join(group).isdecimal() for group in said)
    if agree and (confirmed or (not numbers and (len(said) > 1 or not any(levels)))):
        return True, False
    return False, not numbers and any(len(unit.said) > 1 for unit in units)


def _within(names: list[str], others: tuple[str, ...]) -> bool:
    """Whether the names stand in the others in this order, or are all of them joined by "-"."""
    left = iter(others)
    return names == ["-".join(others)] or all(name in left for name in names)


def _by_folders(levels: list[tuple[str, ...]], raw: Path) -> Pattern:
    """The pattern of the folders' levels."""
    depths = sorted(set(map(len, levels)))
    if len(depths) > 1:
        texts = [_text_of_depth([path for path in levels if len(path) == depth]) for depth in depths]
        hint = " (GREW: python -m data_prep.build grew)" if {"gallery", "probe"} <= _names(levels) else ""
        raise _refuse(raw, levels, f"sequences at {len(depths)} depths{hint}", texts, "once for each depth")
    depth = depths[0]
    if depth == 0:
        raise LayoutError(f"{raw}: frames lie directly in --raw: give the folder above the people")
    columns = _three_columns(levels, raw)
    names = [{path[i] for path in levels} for i in columns]
    text = _text(columns, depth)
    shifted = _text(columns[1:], depth)
    if len(columns) > 1 and len(names[0]) == 1 < len(names[1]) and not min(names[0]).isdecimal():
        problem = f"everybody would be one person, {min(names[0])}"
        raise _refuse(raw, levels, problem, [shifted, text])
    if len(columns) > 1 and {name.lower() for name in names[0]} <= _SIDES:
        raise _refuse(raw, levels, f"the outermost names are no people: {', '.join(sorted(names[0]))}", [shifted, text])
    if len(columns) > 2 and 1 < len(names[0]) <= _FEW and len(names[1]) >= _MANY * len(names[0]):
        problem = f"{len(names[0])} outermost names over {len(names[1])} others"
        raise _refuse(raw, levels, problem, [shifted, text])
    for left, right in itertools.pairwise(columns):
        if len({path[left] for path in levels}) > 1 and all(path[left] == path[right] for path in levels):
            without = [i for i in columns if i != right]
            raise _refuse(raw, levels, "two neighbouring levels are the same", [_text(without, depth), text])
    return Pattern(text)


def _three_columns(levels: list[tuple[str, ...]], raw: Path) -> list[int]:
    """The levels that are labels: all up to three; of more, those that vary and do not repeat the one before.

    A level that does not vary, or repeats the one before, is left out where exactly as many can be as there are too
    many; and the outermost where it does not vary and has the name of --raw.
    """
    depth = len(levels[0])
    columns = list(range(depth))
    varies = [len({path[i] for path in levels}) > 1 for i in columns]
    while len(columns) > 3 and not varies[columns[0]] and levels[0][columns[0]] == without_suffix(raw.name):
        columns.pop(0)
    surplus = len(columns) - 3
    if surplus <= 0:
        return columns
    repeated = {j for i, j in itertools.pairwise(columns) if varies[i] and all(path[i] == path[j] for path in levels)}
    spare = [i for i in columns if not varies[i] or i in repeated]
    if len(spare) == surplus:
        return [i for i in columns if i not in spare]
    ways = itertools.combinations(spare if len(spare) > surplus else columns, surplus)
    texts = [_text([i for i in columns if i not in way], depth) for way in itertools.islice(ways, 4)]
    problem = f"{depth} levels of folders, and which {surplus} of them is no label is not clear"
    raise _refuse(raw, levels, problem, texts)


def _text(columns: Sequence[int], depth: int) -> str:
    words = dict(zip(columns, LABELS, strict=False))
    return "/".join(f"<{words[i]}>" if i in words else "*" for i in range(depth))


def _text_of_depth(levels: list[tuple[str, ...]]) -> str:
    """A pattern for sequences of one depth, behind levels that tell training from test data."""
    depth = len(levels[0])
    start = max(depth - 3, 0)
    while start < depth - 1 and {path[start].lower() for path in levels} <= _SIDES:
        start += 1
    return _text(range(start, depth), depth)


def _names(levels: list[tuple[str, ...]]) -> set[str]:
    return {name.lower() for path in levels for name in path}


def _refuse(raw: Path, levels: list[tuple[str, ...]], problem: str, texts: list[str], how: str = "") -> LayoutError:
    """A refusal that shows a path of each depth and the options."""
    counts = Counter(map(len, levels))
    lines = [f"{raw}: the layout is not clear: {problem}"]
    for depth in sorted(counts):
        first = next(path for path in levels if len(path) == depth)
        lines.append(f"  {printable('/'.join(first))}/  and {counts[depth] - 1:,} more of {depth} levels")
    options = " or ".join(f"--layout='{text}'" for text in dict.fromkeys(texts))
    lines.append(f"Say which it is{', ' + how if how else ''}: {options}")
    return LayoutError("\n".join(lines))
