"""Reports of a build: of a shard, of the data set (its metadata), and the summary that is printed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.align import ALIGNMENT
from data_prep.faults import Fault, group_faults
from data_prep.raw import RawListing
from data_prep.records import fingerprint_of
from gil_jax.data.files import write_atomically
from gil_jax.data.findings import SHORT


@dataclass
class Report:
    """Report of a shard: its records and what was left out; kept as JSON until the data set is complete."""

    plan: str  # hash of everything that the records depend on, as in Job
    labels: list[tuple[str, str, str]]
    lengths: list[int]
    digests: list[str]
    empty: list[str]  # sequences without a single frame with a person
    faults: list[Fault]
    raw_frames: int
    conversions: list[Fault] = field(default_factory=list)  # of pixels that were not 0 and 255


def report_path(shard: Path) -> Path:
    """Return the path of a shard's report."""
    return shard.parent.parent / "reports" / f"{shard.name}.json"


def read_report(shard: Path) -> Report | None:
    """Read the report of a finished shard; None where shard or report are missing or the report can't be parsed."""
    if not shard.exists():
        return None
    try:
        values = json.loads(report_path(shard).read_text(encoding="utf-8"))
        values["labels"] = [(subject, condition, view) for subject, condition, view in values["labels"]]
        for name in ("faults", "conversions"):
            values[name] = [Fault(place, reason) for place, reason in values[name]]
        return Report(**values)
    except (OSError, LookupError, TypeError, ValueError):
        return None  # the shard is written again


def write_report(shard: Path, report: Report) -> None:
    """Write the report of a finished shard."""
    write_atomically(report_path(shard), json.dumps(vars(report)))


def metadata_of(dataset: str, raw: str, listing: RawListing, reports: list[Report], height: int, plan: str) -> dict:
    """Collect the metadata of a data set; labels and lengths are in the order of the records."""
    labels = [label for report in reports for label in report.labels]
    lengths = [length for report in reports for length in report.lengths]
    subjects, conditions, views = (list(column) for column in zip(*labels, strict=True)) if labels else ([], [], [])
    return {
        "fingerprint": fingerprint_of([digest for report in reports for digest in report.digests], height),
        "dataset": dataset,
        "height": height,
        "alignment": ALIGNMENT,
        "layout": listing.layout,
        "raw": Path(raw).name,
        "plan": plan,
        "counts": {
            "sequences_found": len(listing.sequences),
            "sequences_written": len(labels),
            "frames_found": sum(report.raw_frames for report in reports),
            "frames_written": sum(lengths),
            "subjects": len(set(subjects)),
            "conditions": len(set(conditions)),
            "views": len(set(views)),
        },
        "empty": [place for report in reports for place in report.empty],
        "faults": [list(fault) for fault in [*listing.faults, *(f for report in reports for f in report.faults)]],
        "conversions": [str(one) for one in group_faults(c for report in reports for c in report.conversions)],
        "subjects": subjects,
        "conditions": conditions,
        "views": views,
        "lengths": lengths,
    }


def summary(folder: Path, metadata: dict, seconds: float) -> str:
    """Describe a build in a few lines."""
    counts = metadata["counts"]
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    labels = zip(metadata["subjects"], metadata["conditions"], metadata["views"], metadata["lengths"], strict=True)
    short = ["/".join(label) for *label, length in labels if length < SHORT]
    lines = [
        f"{folder}",
        f"  found     {counts['sequences_found']:,} sequences, {counts['frames_found']:,} frames: {metadata['layout']}",
        f"  rejected  {counts['frames_found'] - counts['frames_written']:,} frames without a person, or refused",
        f"  written   {counts['sequences_written']:,} sequences, {counts['frames_written']:,} frames: "
        f"{counts['subjects']:,} subjects, {counts['conditions']} conditions, {counts['views']} views",
        f"  took      {seconds:.1f} s, {counts['frames_found'] / seconds:,.0f} frames/s; {size:.1f} MB; "
        f"fingerprint {metadata['fingerprint']}",
    ]
    lines += [f"  NOTE      {conversion}" for conversion in metadata["conversions"]]
    for what, places in (
        ("without a person, left out", metadata["empty"]),
        (f"with fewer than {SHORT} frames, kept", short),
        ("faulty, left out", [Fault(*fault) for fault in metadata["faults"]]),
    ):
        if places:
            lines.append(f"  WARNING   {len(places):,} {what}:\n    {lines_of(places)}")
    return "\n".join(lines)


def lines_of(places: Sequence[object], most: int = 10) -> str:
    """List the first few, one a line, and the number of the others."""
    more = f"\n    ... and {len(places) - most:,} more" if len(places) > most else ""
    return "\n    ".join(map(str, places[:most])) + more
