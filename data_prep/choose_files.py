"""Choose one sequence file a folder where several kinds lie together: silhouettes, aligned or not, pictures, poses."""

import re
from collections import defaultdict
from typing import NamedTuple

from data_prep.faults import Fault
from data_prep.file_kinds import without_suffix
from data_prep.guess_layout import LayoutError
from data_prep.units import Unit

_SILHOUETTES = re.compile(r"(?<![a-z])sil(s|houettes?)?(?![a-z])", re.IGNORECASE)
_ALIGNED = re.compile(r"(?<![a-z])align(ed)?(?![a-z])", re.IGNORECASE)


class Choice(NamedTuple):
    """Units that are left, folders without a file of the chosen kind, and what was chosen in words."""

    units: list[Unit]
    faults: list[Fault]
    notes: list[str]


def choose_kind(units: list[Unit]) -> Choice:
    """Keep one sequence file a folder, where the names of several tell that they are of one sequence.

    They are where the folders give three levels already, or where a name says "sil", "sils" or "silhouettes". The one
    kind that also says "aligned" is taken, else the one that says "sils". Raises LayoutError that names the files where
    there is no such kind.
    """
    folders: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        if unit.is_file:
            folders[unit.place].append(unit)
    several = [files for files in folders.values() if len(files) > 1]
    if not several:
        return Choice(units, [], [])
    kinds: dict[str, int] = defaultdict(int)
    for files in folders.values():
        for kind in {_kind(unit) for unit in files}:
            kinds[kind] += 1
    silhouettes = [kind for kind in kinds if _SILHOUETTES.search(kind)]
    aligned = [kind for kind in silhouettes if _ALIGNED.search(kind)]
    if not silhouettes and not _fill_three_levels(several):
        return Choice(units, [], [])
    picked = aligned or silhouettes
    if len(picked) != 1:
        raise LayoutError(_refusal(max(several, key=len), sorted(picked or kinds)))
    kept = [unit for unit in units if not unit.is_file or _kind(unit) == picked[0]]
    left = sorted(kind for kind in kinds if kind != picked[0])
    places = sorted(folders.keys() - {unit.place for unit in kept if unit.is_file})
    faults = [Fault(place, f"no file of the kind that is taken: {picked[0]}") for place in places]
    count = len(units) - len(kept)
    return Choice(kept, faults, [f"taking {picked[0]}; {count:,} files are left out: {', '.join(left[:8])}"])


def _kind(unit: Unit) -> str:
    """The name of a file as a glob that fits its fellows in other folders: 03-000-Pose.pkl in 000/ is 03-*-Pose.pkl."""
    folder = unit.levels[-1] if unit.levels else ""
    stem = without_suffix(unit.names)
    suffix = unit.names[len(stem) :]
    own = re.compile(rf"(?<![^\W_]){re.escape(folder)}(?![^\W_])")
    return (own.sub("*", stem, count=1) if folder else stem) + suffix


def _fill_three_levels(several: list[list[Unit]]) -> bool:
    """Whether the folders of the files give three levels that vary, or more than one kind stands in every folder."""
    levels = [files[0].levels for files in several]
    if min(map(len, levels)) < 3:
        return False
    numbers = all(without_suffix(unit.names).isdecimal() for files in several for unit in files)
    return not (numbers and len({names[0] for names in levels}) == 1)


def _refusal(files: list[Unit], kinds: list[str]) -> str:
    names = [unit.names for unit in files]
    options = " or ".join(f"--files={kind!r}" for kind in kinds[:4])
    return (
        f"{files[0].place}: {len(names)} sequence files in the folder of one sequence: {', '.join(names[:20])}. "
        f"Say which to take: {options}"
    )
