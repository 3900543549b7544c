"""Label sequences: derive (subject, condition, view) from the names of folders, files and archives.

A pattern says where the labels stand: given by --layout, known of a named data set, or found by data_prep.guess_layout.
Folders, archives, and archives within archives follow the same rules.
"""

import fnmatch
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data_prep.choose_files import choose_kind
from data_prep.faults import Fault, printable
from data_prep.file_kinds import without_suffix
from data_prep.guess_layout import LayoutError, guess_pattern
from data_prep.pattern import Labels, Pattern, frame_levels
from data_prep.units import Unit
from gil_jax.data.names import compose

_EXAMPLES = 3


@dataclass(frozen=True)
class LayoutRules:
    """How files become sequences.

    patterns: tried in order, found if there are none; files: a glob of the files to take, all if empty; fallback: the
    patterns count only where none is found without them; finish: changes the labels of all sequences; litter: a regular
    expression of files that are ignored.
    """

    patterns: tuple[Pattern, ...] = ()
    files: str = ""
    fallback: bool = False
    finish: Callable[[list[Labels]], list[Labels]] | None = None
    litter: str = ""


class Labelled(NamedTuple):
    """sequences: with their labels; layout: in words; examples: paths and the labels they get; notes: no faults."""

    sequences: list[tuple[Labels, Unit]]
    layout: str
    faults: list[Fault]
    notes: list[str]
    examples: list[str]


def label_units(units: list[Unit], raw: Path, rules: LayoutRules) -> Labelled:
    """Label all units; raises LayoutError where the layout is not clear."""
    faults, notes = [], []
    if rules.files:
        units = _filter_files(units, rules.files, faults, notes)
    chosen = choose_kind(units)
    units = chosen.units
    faults += chosen.faults
    notes += chosen.notes
    if not units:
        return Labelled([], "", faults, notes, [])
    patterns = () if rules.fallback else rules.patterns
    if not patterns:
        levels = read_levels(units)
        strays = find_strays(units, levels, raw)
        faults += [Fault(units[i].path, reason) for i, reason in strays.items()]
        kept = [i for i in range(len(units)) if i not in strays]
        units, levels = [units[i] for i in kept], [levels[i] for i in kept]
        try:
            patterns = (guess_pattern(units, levels, raw),)
        except LayoutError:
            if not rules.patterns or not all(_match(unit, rules.patterns, True) for unit in units):
                raise
            patterns = rules.patterns
    labelled, used, unfit = _apply(units, patterns, raw)
    if not labelled:
        raise LayoutError(
            f"{raw}: nothing fits the layout {' or '.join(p.text for p in patterns)}; "
            f"found {', '.join(_below(unit.path, raw) for unit in units[:_EXAMPLES])}"
        )
    faults += [Fault(unit.path, f"does not fit the layout {' or '.join(p.text for p in patterns)}") for unit in unfit]
    if rules.finish:
        finished = rules.finish([labels for labels, _ in labelled])
        labelled = [(labels, unit) for labels, (_, unit) in zip(finished, labelled, strict=True)]
    if not rules.patterns and not patterns[0].names_frames:
        labelled = _refuse_misfiled(labelled, faults)
    labelled = _refuse_unprintable([(_clean(labels), unit) for labels, unit in labelled], faults)
    if len(labelled) > 1 and len({labels[0] for labels, _ in labelled}) == 1:
        notes.append(f"everybody is one person: {labelled[0][0][0]}. If that is no person, give --layout")
    return Labelled(labelled, " and ".join(used), faults, notes, _show(labelled, raw))


def read_levels(units: list[Unit]) -> list[tuple[str, ...]]:
    """The levels of every unit: of its folder, and of a sequence file that is not alone in its folder also its name."""
    files = [unit for unit in units if unit.is_file]
    if not files:
        return [unit.levels for unit in units]
    folders = Counter(unit.place for unit in files)
    alone = max(folders.values()) == 1
    depth = Counter(len(unit.levels) for unit in units if not unit.is_file or len(files) == len(units)).most_common(1)
    stems = [without_suffix(unit.names) for unit in files]
    if len(files) < len(units):  # beside folders of pictures
        is_folder = Counter(len(unit.levels) for unit in files).most_common(1)[0][0] == depth[0][0]
    else:
        repeated = all(unit.levels[-1:] == (stem,) for unit, stem in zip(files, stems, strict=True))
        is_folder = depth[0][0] >= 3 or repeated or (len(files) > 1 and len(set(stems)) == 1)
    if alone and is_folder:
        return [unit.levels for unit in units]
    return [(*unit.levels, without_suffix(unit.names)) if unit.is_file else unit.levels for unit in units]


def find_strays(units: list[Unit], levels: list[tuple[str, ...]], raw: Path) -> dict[int, str]:
    """Units that can't be sequences because they lie around or inside of others: index -> reason.

    Of two such folders the one at the depth of most sequences is right.
    """
    usual = Counter(map(len, levels)).most_common(1)[0][0]
    pictures = {unit.place: i for i, unit in enumerate(units) if not unit.is_file}
    strays = {}
    for i, unit in enumerate(units):
        if unit.is_file and unit.place in pictures:
            strays[i] = "a sequence file among pictures"
            continue
        around = _parents(unit.place, raw) & pictures.keys()
        if around and len(levels[i]) == usual:
            strays |= {pictures[place]: "pictures beside the folders of sequences" for place in around}
        elif around:
            strays[i] = "a folder among the frames of a sequence"
    return strays


def _parents(place: str, raw: Path) -> set[str]:
    cuts = [i for i, letter in enumerate(place) if letter == "/" and i > len(str(raw))]
    return {place[:i] for i in cuts} | ({str(raw)} if place != str(raw) else set())


def _filter_files(units: list[Unit], glob: str, faults: list[Fault], notes: list[str]) -> list[Unit]:
    """Keep the files whose names fit --files; folders of which nothing is left are faults."""
    kept, left_out = [], 0
    for unit in units:
        chosen = unit.only(lambda name: fnmatch.fnmatchcase(compose(name), compose(glob)))
        count = len(chosen.names.split("/")) if chosen.names else 0
        left_out += len(unit.names.split("/")) - count
        if count:
            kept.append(chosen)
    if left_out:
        notes.append(f"{left_out:,} files do not fit --files={glob} and are left out")
    empty = sorted({unit.place for unit in units} - {unit.place for unit in kept})
    faults += [Fault(place, f"no file here fits --files={glob}") for place in empty]
    return kept


def _match(unit: Unit, patterns: Iterable[Pattern], alone: bool) -> tuple[Pattern, list[tuple[dict, Unit]]] | None:
    """The first pattern that fits, and the sequences of the unit with the values of the pattern's tokens."""
    for pattern in patterns:
        if pattern.names_frames and not unit.is_file:
            names = {name: pattern.match(frame_levels(unit.levels, name)) for name in unit.names.split("/")}
            if all(names.values()):
                groups: dict[tuple, set[str]] = {}
                for name, tokens in names.items():
                    key = tuple((k, v) for k, v in (tokens or {}).items() if k != "frame")
                    groups.setdefault(key, set()).add(name)
                return pattern, [(dict(key), unit.only(group.__contains__)) for key, group in groups.items()]
        elif not pattern.names_frames:
            readings = [unit.levels] if alone or not unit.is_file else []
            readings += [frame_levels(unit.levels, unit.names)] if unit.is_file else []
            for levels in readings:
                if (tokens := pattern.match(levels)) is not None:
                    return pattern, [(tokens, unit)]
    return None


def _apply(units: list[Unit], patterns: tuple[Pattern, ...], raw: Path) -> tuple[list, list[str], list[Unit]]:
    """Labelled sequences, the patterns that were used, and units that fit none."""
    above = tuple(without_suffix(part) for part in raw.parts[1:])
    folders = Counter(unit.place for unit in units)
    labelled, used, unfit = [], {}, []
    for unit in units:
        found = _match(unit, patterns, folders[unit.place] == 1)
        if found is None:
            unfit.append(unit)
            continue
        used[found[0].text] = True
        labelled += [(found[0].labels_of(tokens, above), sequence) for tokens, sequence in found[1]]
    return labelled, list(used), unfit


def _refuse_misfiled(labelled: list[tuple[Labels, Unit]], faults: list[Fault]) -> list[tuple[Labels, Unit]]:
    """Leave out folders whose frames are named after another sequence: names of the same people and conditions."""
    known = [{labels[i] for labels, _ in labelled} for i in range(3)]
    kept = []
    for labels, unit in labelled:
        others = [said for said in unit.said if said and said != labels]
        if unit.said and None not in unit.said and all(all(map(set.__contains__, known, said)) for said in others):
            for said in others[:1]:
                reason = "frames are named after another sequence than their folder"
                advice = f"{'-'.join(said)} in {'/'.join(labels)}; give --layout to go by the folders"
                faults.append(Fault(unit.path, f"{reason}: {advice}"))
            kept += [] if others else [(labels, unit)]
        else:
            kept.append((labels, unit))
    return kept


def _refuse_unprintable(labelled: list[tuple[Labels, Unit]], faults: list[Fault]) -> list[tuple[Labels, Unit]]:
    """Leave out names with line breaks and other control characters."""
    faults += [
        Fault(unit.path, "a name with control characters")
        for labels, unit in labelled
        if any(letter < " " or letter == "\x7f" for letter in "".join(labels))
    ]
    return [pair for pair in labelled if not any(letter < " " or letter == "\x7f" for letter in "".join(pair[0]))]


def _clean(labels: Labels) -> Labels:
    r"""Labels that every program writes the same way: composed Unicode; bytes that are no text as \xff."""

    def clean(name: str) -> str:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        return sys.intern(compose(text))

    return clean(labels[0]), clean(labels[1]), clean(labels[2])


def _show(labelled: list[tuple[Labels, Unit]], raw: Path) -> list[str]:
    """A few sequences from the beginning, the middle and the end, with their labels."""
    picked = sorted({0, len(labelled) // 2, len(labelled) - 1})
    lines = []
    for labels, unit in (labelled[i] for i in picked) if labelled else ():
        names = unit.names.split("/")
        files = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names):,} files)"
        where = "/".join(part for part in (_below(unit.place, raw), files) if part)
        subject, condition, view = labels
        lines.append(printable(f"{where}  ->  subject {subject}, condition {condition}, view {view}"))
    return lines


def _below(place: str, raw: Path) -> str:
    return place.removeprefix(str(raw)).strip("/")
