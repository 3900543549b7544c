"""Raw data sets as they lie on the disk: which sequences there are, their labels, and where their frames lie.

Folders, archives, archives in folders and archives in archives are read by the same rules, see data_prep.layout:

    <subject>/<condition>/<view>/<frame>.png          CASIA-B and most others
    Silhouette_<view>-<condition>/<subject>/<frame>   OU-MVLP
    <subject>/<condition>/<view>[/<any>].pkl          a sequence in one file: pickle, npy or npz

A listing holds names and positions only; frames are read when a sequence is asked for.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_prep.archives import Archives, Chain, open_regular
from data_prep.faults import DAMAGE, Fault, describe_error, is_machine_error, printable
from data_prep.file_kinds import ARCHIVES, PICTURES, SEQUENCE_FILES
from data_prep.guess_layout import BY_ARCHIVE
from data_prep.layout import Labelled, LayoutRules, label_units
from data_prep.limits import DEFAULT_LIMITS, Limits
from data_prep.pattern import Labels
from data_prep.units import HANDLE, Unit
from data_prep.walk import Found, Unread, list_archive, walk_folders
from data_prep.zip_archive import PasswordError

_EXPECTED = (
    f"Expected <subject>/<condition>/<view>/ with pictures {PICTURES} or sequence files {SEQUENCE_FILES}, or archives "
    f"{ARCHIVES} of such folders"
)


@dataclass(frozen=True, slots=True, eq=False)
class RawSequence:
    """A sequence and where it lies. No frame of it has been read.

    subject, condition, view: its labels; place: where it lies, for a reader. chain: the archive that holds it, ()
    for a folder; folder: the folder on the disk, if there is no archive. names: its files in natural order, joined by
    "/" (six million strings would not fit); handles: packed, how the archive finds them.
    """

    subject: str
    condition: str
    view: str
    place: str
    chain: Chain
    folder: str
    names: str = field(repr=False)
    handles: bytes = field(repr=False)

    @property
    def files(self) -> list[str]:
        """The names of its files in natural order."""
        return self.names.split("/") if self.names else []

    @property
    def labels(self) -> Labels:
        """Subject, condition and view."""
        return self.subject, self.condition, self.view


class RawListing(NamedTuple):
    """Sequences in the order of the records, faults, the layout in words, and what a reader should see before a build.

    examples: paths of a few sequences with their labels; notes: what is not read, and what was chosen.
    """

    sequences: list[RawSequence]
    faults: list[Fault]
    layout: str
    examples: list[str]
    notes: list[str]

    def describe(self) -> str:
        """The layout, the examples and the notes in lines."""
        first = f"Layout {self.layout}: {len(self.sequences):,} sequences, for example"
        lines = [first, *(f"  {line}" for line in self.examples)] if self.sequences else ["No sequence found"]
        return "\n".join([*lines, *(f"  NOTE  {note}" for note in self.notes)])


def list_raw(
    raw: str | os.PathLike[str],
    run_all: Callable,
    skip: str | os.PathLike[str] = "",
    rules: LayoutRules | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> RawListing:
    """List the sequences of a folder or an archive.

    run_all(function, jobs) -> results of function(archives, job) in any order, see data_prep.workers; skip: a folder
    that is not looked into, where a data set is built below its raw data; rules: from --layout, --files or a known
    data set. Raises ValueError if there is no such file or no sequence at all, LayoutError where the layout is not
    clear, PasswordError for an encrypted archive, LimitError for too many archives.
    """
    raw = Path(raw).expanduser().absolute()
    rules = rules or LayoutRules()
    if not raw.exists():
        raise ValueError(f"--raw={raw}: there is no such file or folder")
    found = walk_folders(raw, skip, rules.litter) if raw.is_dir() else Found(archives=[((), (str(raw),))])
    chains, count = found.archives, 0
    while chains:
        count += len(chains)
        limits.check_number(count)
        inner = []
        for part in run_all(partial(list_archive, rules.litter), chains):
            found.units += part.units
            found.faults += part.faults
            found.notes += part.notes
            found.unread += part.unread
            inner += part.archives
        chains = inner
    labelled = label_units(found.units, raw, rules)
    sequences, twins = _name_sequences(labelled)
    depths = [len(unit.levels) for _, unit in labelled.sequences]
    more_faults, more_notes = _report_unread(found.unread, min(depths, default=0))
    faults = sorted({*found.faults, *labelled.faults, *twins, *more_faults})
    notes = [printable(note) for note in (*labelled.notes, *sorted(set(found.notes)), *more_notes)]
    if not sequences and not faults:
        raise ValueError("\n".join([f"--raw={raw}: no sequence found. {_EXPECTED}", *notes]))
    return RawListing(sequences, faults, labelled.layout, labelled.examples, notes)


def read_files(sequence: RawSequence, archives: Archives) -> Iterator[tuple[str, bytes | Fault]]:
    """The files of a sequence one after the other: (place, bytes), or (place, Fault) where one can't be read."""
    for index, name in enumerate(sequence.files):
        place = f"{sequence.place}/{name}"
        try:
            if sequence.chain:
                yield place, archives.read(sequence.chain, HANDLE.unpack_from(sequence.handles, index * HANDLE.size))
            else:
                with open_regular(os.path.join(sequence.folder, name)) as file:
                    archives.limits.check_sequence(os.fstat(file.fileno()).st_size)
                    yield place, file.read()
        except (*DAMAGE, MemoryError) as error:
            if is_machine_error(error) or isinstance(error, PasswordError):
                raise
            reason = "too large for the memory" if isinstance(error, MemoryError) else describe_error(error)
            yield place, Fault(place, f"can't be read ({reason})")


def _name_sequences(labelled: Labelled) -> tuple[list[RawSequence], list[Fault]]:
    """The sequences in the order of the records, and faults for names that are there twice.

    Of two folders with the same labels the first is kept; whoever skips faults reads which that is.
    """
    by_archive = labelled.layout == BY_ARCHIVE.text
    ordered = sorted(labelled.sequences, key=lambda pair: (_order(pair[0], by_archive), pair[1].place, pair[1].names))
    sequences: dict[Labels, RawSequence] = {}
    twins: dict[Labels, list[Unit]] = defaultdict(list)
    for labels, unit in ordered:
        sequence = RawSequence(*labels, unit.place, unit.chain, unit.folder, unit.names, unit.handles)
        if sequences.setdefault(labels, sequence) is not sequence:
            twins[labels].append(unit)
    faults = [
        Fault(unit.path, f"is there twice: the sequence {'/'.join(labels)}, also as {sequences[labels].place}")
        for labels, units in twins.items()
        for unit in units
    ]
    return list(sequences.values()), faults


def _order(labels: Labels, by_archive: bool) -> Labels:
    # OU-MVLP comes as one archive for every view and condition: one after the other, few are open at a time.
    return (labels[1], labels[2], labels[0]) if by_archive else labels


def _report_unread(unread: list[Unread], depth: int) -> tuple[list[Fault], list[str]]:
    """Faults for files that are not read where sequences lie, notes for others: one for each kind and suffix."""
    groups: dict[tuple[str, str], list[Unread]] = defaultdict(list)
    for one in unread:
        if one.among:
            groups["neither a picture nor a sequence file", one.suffix].append(one)
        elif one.inmost and len(one.path) >= max(depth, 1):
            groups["not a picture or sequence file that is read here", one.suffix].append(one)
        else:
            groups["", one.suffix].append(one)
    faults, notes = [], []
    for (reason, suffix), group in sorted(groups.items()):
        first, count = min(group), sum(one.count for one in group)
        folders = Counter(one.place for one in group)
        where = f"{count:,} files {suffix}" + (f" in {len(folders):,} folders" if len(folders) > 1 else "")
        place = f"{first.place}/{first.example}"
        if reason:
            faults.append(Fault(place, f"{reason}: {where}" if count > 1 else reason))
        else:
            notes.append(f"not read: {where}, as {place}" if count > 1 else f"not read: {place}")
    return faults, notes
