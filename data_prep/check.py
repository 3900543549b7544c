"""Validate a data set before it is used: raw data, built records, or both against each other.

    python -m data_prep.check casia_b --raw=<folder or archive>
    python -m data_prep.check casia_b --data_dir=<dir> [--split=lt] [--sheet=<picture.png>] [--json]
    python -m data_prep.check silhouettes --raw=<folder> --data_dir=<dir> --name=<name> --protocol=<file.json>

Every frame is read unless --quick is given. The exit status is 1 where something is wrong.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from data_prep.archives import Archives
from data_prep.datasets import DATASETS
from data_prep.faults import Fault, group_faults
from data_prep.frames import read_aligned
from data_prep.look import Look, contact_sheet, count_table, format_look
from data_prep.options import (
    ReadingOptions,
    add_common_options,
    add_reading_options,
    take_reading_options,
    use_lenient_output,
)
from data_prep.pictures import THRESHOLD, is_inverted, is_ragged
from data_prep.raw import RawSequence, list_raw
from data_prep.records import digest, fingerprint_of
from data_prep.workers import Workers
from gil_jax.data.findings import check_published, check_table, sequence_names
from gil_jax.data.names import shorten
from gil_jax.data.protocols import PROTOCOLS, load_protocol, load_split
from gil_jax.data.source import SequenceTable, SilhouetteSource, find_dataset
from gil_jax.errors import escape

_CHUNK = 32  # sequences that a process checks at a time


def check_raw(
    raw: str, dataset: str, height: int, workers: Workers, reading: ReadingOptions, quick: bool
) -> tuple[Look, SequenceTable]:
    """List raw data, and unless `quick` read and align every frame. Refused sequences are left out of the table."""
    listing = list_raw(raw, workers.run, rules=reading.rules(dataset), limits=reading.limits)
    sequences = listing.sequences
    faults = [str(fault) for fault in group_faults(listing.faults)]
    alignment = DATASETS[dataset].alignment
    lengths = np.array([len(sequence.files) for sequence in sequences], np.int64)
    taken = np.ones(len(sequences), bool)
    conversions = []
    if not quick:
        chunks = [(i, sequences[i : i + _CHUNK]) for i in range(0, len(sequences), _CHUNK)]
        with tqdm(total=len(sequences), unit="seq", desc="raw") as bar:
            for chunk in workers.run(partial(_read_chunk, height, alignment), chunks):
                rows = slice(chunk.start, chunk.start + len(chunk.lengths))
                lengths[rows], taken[rows] = chunk.lengths, chunk.taken
                faults += chunk.faults
                conversions += chunk.conversions
                bar.update(len(chunk.lengths))
    labels = np.array([sequence.labels for sequence in sequences], str).reshape(-1, 3)
    subjects, conditions, views = labels[taken].T
    table = SequenceTable(subjects, conditions, views, lengths[taken])
    look = count_table(str(raw), table)
    look.layout, look.examples = listing.layout, listing.examples
    look.warnings += [*listing.notes, *map(str, group_faults(sorted(conversions)))]
    look.unreadable = sorted(faults)
    return look, table


class _RawChunk(NamedTuple):
    """Sequences from `start` on: their lengths, whether they are taken, faults, and conversions of their pixels."""

    start: int
    lengths: list[int]
    taken: list[bool]
    faults: list[str]
    conversions: list[Fault]


def _read_chunk(height: int, alignment: str, archives: Archives, job: tuple[int, list[RawSequence]]) -> _RawChunk:
    start, sequences = job
    chunk = _RawChunk(start, [], [], [], [])
    for sequence in sequences:
        aligned = read_aligned(sequence, archives, height, alignment)
        chunk.lengths.append(len(aligned.frames))
        chunk.taken.append(aligned.is_empty or len(aligned.frames) > 0)
        chunk.faults.extend(map(str, aligned.faults))
        chunk.conversions.extend(aligned.conversions)
    return chunk


def check_built(path: Path, workers: Workers, quick: bool) -> tuple[Look, SilhouetteSource]:
    """Read the labels of a built data set, and unless `quick` every record: its pixels, and the fingerprint of all."""
    source = SilhouetteSource(path, check=False)
    look = count_table(str(path), source.table)
    look.problems += source.problems()
    metadata = json.loads((path / "metadata.json").read_text(encoding="utf-8"))
    for what, places in (
        ("faults", map(": ".join, metadata["faults"])),
        ("sequences without a person", metadata["empty"]),
    ):
        if places := list(places):
            look.warnings.append(f"{len(places):,} {what} were left out when this was built: {shorten(places)}")
    if not quick:
        look.problems += source.changed_cache()
        chunks = [range(i, min(i + _CHUNK, len(source))) for i in range(0, len(source), _CHUNK)]
        digests, pixels = {}, []
        with tqdm(total=len(source), unit="seq", desc="built") as bar:
            for rows, found, unreadable, faults in workers.run(partial(_digest_chunk, source), chunks):
                digests[rows.start] = found
                look.unreadable += unreadable
                pixels += faults
                bar.update(len(rows))
        look.unreadable.sort()
        _add_pixels(look, pixels, DATASETS[metadata["dataset"]].alignment if metadata["dataset"] in DATASETS else "")
        in_order = [one for start in sorted(digests) for one in digests[start]]
        if not look.unreadable and fingerprint_of(in_order, source.height) != source.fingerprint:
            look.problems.append(f"the records are not those of the fingerprint {source.fingerprint}: build them again")
    return look, source


_RAGGED = "the outermost rows of most frames are faint, noise was taken for heads and feet"


def _add_pixels(look: Look, faults: list[Fault], alignment: str) -> None:
    """Report records of pictures that were no white bodies on black. Frames that came aligned may have soft edges."""
    for fault in group_faults(sorted(faults)):
        if not fault.reason.startswith(_RAGGED):
            look.problems.append(f"{fault}: mend the pictures, or build them again")
        elif alignment != "stored":
            look.warnings.append(f"{fault}: build them again")


def _digest_chunk(
    source: SilhouetteSource, _: Archives, rows: range
) -> tuple[range, list[str], list[str], list[Fault]]:
    digests, unreadable, faults = [], [], []
    names = sequence_names(source.table)
    for row in rows:
        try:
            silhouettes = source[row]
            if len(silhouettes) != source.table.lengths[row]:
                raise ValueError(f"{len(silhouettes)} frames instead of {source.table.lengths[row]}")
            subject, condition, view = names[row].split("/")
            digests.append(digest((subject, condition, view), silhouettes))
            faults += [Fault(names[row], reason) for reason in [_pixel_fault(silhouettes)] if reason]
        except (ValueError, RuntimeError, IndexError) as error:
            unreadable.append(f"record {row}, {names[row]}: {error}")
    return rows, digests, unreadable, faults


def _pixel_fault(silhouettes: UInt8[np.ndarray, "s h h"]) -> str:
    """Say how the frames of a record differ from white bodies on black, empty where they do not."""
    top = int(silhouettes.max(initial=0))
    if top <= THRESHOLD:
        return f"too dark: the brightest value is {top}, a body is 255"
    if is_inverted(list(silhouettes)):
        return "looks inverted, a black body on white"
    ragged = sum(map(is_ragged, silhouettes))
    return f"{_RAGGED}: {ragged} of {len(silhouettes)}" if 4 * ragged > 3 * len(silhouettes) else ""


def compare(raw: SequenceTable, built: SequenceTable) -> list[str]:
    """List the differences between raw data and records: sequences that one side lacks, other numbers of frames."""
    sides = [dict(zip(sequence_names(table), table.lengths.tolist(), strict=True)) for table in (raw, built)]
    raw_lengths, built_lengths = ({name: n for name, n in side.items() if n} for side in sides)
    differences = [
        ("raw sequences that the records lack", raw_lengths.keys() - built_lengths.keys()),
        ("records without raw sequence", built_lengths.keys() - raw_lengths.keys()),
        (
            "sequences whose records have another number of frames than the raw data",
            {n for n in raw_lengths.keys() & built_lengths.keys() if raw_lengths[n] != built_lengths[n]},
        ),
    ]
    return [f"{len(names):,} {what}: {shorten(sorted(names))}" for what, names in differences if names]


def _add_findings(look: Look, table: SequenceTable, dataset: str, protocol_name: str, split_name: str) -> None:
    """Append the problems and warnings of labels and lengths."""
    if look.unreadable:
        look.problems.append(f"{len(look.unreadable):,} unreadable or refused: {shorten(look.unreadable)}")
    if dataset in PROTOCOLS:
        findings = check_published(table, PROTOCOLS[dataset])
        look.problems += findings.problems
        look.warnings += findings.warnings
    protocol = load_protocol(protocol_name or (dataset if dataset in PROTOCOLS else "casia_b"))
    split = None
    if split_name:
        try:
            split = load_split(split_name, protocol, table.subjects.tolist())
        except ValueError as error:
            look.problems.append(str(error).replace("config.data.split", "--split"))
    findings = check_table(table, protocol, split)
    look.problems += findings.problems
    look.warnings += findings.warnings


def run_checks(options: argparse.Namespace, reading: ReadingOptions) -> Iterator[tuple[str, Look]]:
    """Yield ("raw" or "built", look) as the options ask for; the last look holds the differences of the two."""
    raw_table = None
    encoding, limits = reading.zip_encoding, reading.limits
    with Workers(options.processes, reading.passwords(), zip_encoding=encoding, limits=limits) as workers:
        if options.raw:
            look, raw_table = check_raw(options.raw, options.dataset, options.height, workers, reading, options.quick)
            _add_findings(look, raw_table, options.dataset, options.protocol, options.split)
            yield "raw", look
        if options.data_dir or not options.raw:
            path = find_dataset(options.data_dir, options.name or options.dataset, options.height)
            look, source = check_built(path, workers, options.quick)
            _add_findings(look, source.table, options.dataset, options.protocol, options.split)
            if raw_table is not None and not options.quick:
                look.problems += compare(raw_table, source.table)
            if options.sheet:
                contact_sheet(source, options.sheet)
            yield "built", look


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--raw", default="", help="a folder or an archive")
    parser.add_argument("--protocol", default="", help="gallery and probes: a name, or a JSON file")
    parser.add_argument("--split", default="", help="a published split, first-N, or a JSON file, to check as well")
    parser.add_argument("--sheet", default="", help="write a contact sheet of the built data set to this picture")
    parser.add_argument("--quick", action="store_true", help="names and lengths only, no frame is read")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--processes", type=int, help="one a core by default")
    add_reading_options(parser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 where something is wrong, 2 where nothing could be checked."""
    options = _parser().parse_args(arguments)
    use_lenient_output()
    try:
        looks = dict(run_checks(options, take_reading_options(vars(options))))
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        print(f"error: {escape(str(error))}", file=sys.stderr)
        return 2
    wrong = sum(len(look.problems) for look in looks.values())
    if options.json:
        print(json.dumps({"ok": not wrong, **{name: asdict(look) for name, look in looks.items()}}, indent=1))
    else:
        print("\n".join(map(format_look, looks.values())))
        print(f"{wrong} problems" if wrong else "Nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
