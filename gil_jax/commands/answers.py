"""Answers of `identify` and `verify`: a line of text, of JSON or of CSV for each sequence."""

import csv
import json
import math
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from gil_jax.errors import escape
from gil_jax.gallery import Candidate, Identification
from gil_jax.video_input import Seen, describe_seen

FORMATS = ("text", "json", "csv")


class Answers(NamedTuple):
    """Sequences that are answered about: their names, where they are seen in a video, and one of FORMATS."""

    names: list[str]
    tracks: dict[str, Seen]
    form: str


def write_identified(answers: Answers, found: list[Identification]) -> None:
    """Print who each sequence is. CSV has a line for each of the nearest people."""
    if answers.form == "text":
        for name, one in zip(answers.names, found, strict=True):
            print(escape(format_identification(_described(answers, name), one)))
        return
    records = []
    for name, one in zip(answers.names, found, strict=True):
        threshold = one.threshold if math.isfinite(one.threshold) else None
        record = {"sequence": name, "name": one.name, "threshold": threshold, **_seen(answers, name)}
        if answers.form == "json":
            records.append({**record, "candidates": [candidate._asdict() for candidate in one.candidates]})
        else:
            people = [c._asdict() for c in one.candidates]
            records += [
                {**record, "rank": rank, "candidate": person.pop("name"), **person}
                for rank, person in enumerate(people, start=1)
            ]
    _write(records, answers.form)


def write_verified(answers: Answers, found: list[tuple[bool, Candidate]]) -> None:
    """Print for each sequence whether it is of the person that is claimed."""
    if answers.form == "text":
        for name, (accepted, claimed) in zip(answers.names, found, strict=True):
            answer = "this is" if accepted else "this is not"
            score = _score(claimed.score)
            described = _described(answers, name)
            print(escape(f"{described}: {answer} {claimed.name}{score}   [distance {claimed.distance:.3f}]"))
        return
    records = [
        {"sequence": name, "accepted": accepted, **_seen(answers, name), **claimed._asdict()}
        for name, (accepted, claimed) in zip(answers.names, found, strict=True)
    ]
    _write(records, answers.form)


def format_identification(name: str, found: Identification) -> str:
    """Write one line: the sequence, the person or "unknown", and the nearest people."""
    nearest = "  ".join(f"{c.name} {c.distance:.3f}{_score(c.score)}" for c in found.candidates)
    best = found.candidates[0]
    answer = f"this is {found.name}{_score(best.score)}" if found.name is not None else "unknown"
    return f"{name}: {answer}   [nearest: {nearest}; threshold {found.threshold:.3f}]"


def _described(answers: Answers, name: str) -> str:
    return f"{name}, {describe_seen(answers.tracks[name])}" if name in answers.tracks else name


def _seen(answers: Answers, name: str) -> dict[str, Any]:
    if name not in answers.tracks:
        return {}
    seen = answers.tracks[name]
    start, end = seen.seconds or (None, None)
    return {"track": seen.track, "first": seen.first, "last": seen.last, "start_seconds": start, "end_seconds": end}


def _write(records: Iterable[dict[str, Any]], form: str) -> None:
    records = list(records)
    if form == "json":
        for record in records:
            print(json.dumps(record, ensure_ascii=False))
        return
    lines = csv.DictWriter(sys.stdout, list(dict.fromkeys(key for r in records for key in r)), lineterminator="\n")
    lines.writeheader()
    lines.writerows(records)


def _score(score: float | None) -> str:
    return "" if score is None else f", {score:.2f}"
