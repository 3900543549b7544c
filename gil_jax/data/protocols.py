"""Who trains, who is tested, and what is compared with what: splits, gallery and probes.

Sources: Yu, Tan and Tan, ICPR 2006 (CASIA-B; the ST, MT and LT settings are those of Wu et al., TPAMI 2017);
Takemura et al., IPSJ CVA 2018 (OU-MVLP).
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Protocol:
    """How a data set is evaluated.

    gallery: the conditions of the enrolled sequences; probes: name of a probe set -> its conditions;
    views, conditions and subjects: what the published data set holds (empty: nothing is expected);
    splits: name of a published split -> the subjects that train; everybody else is tested.
    """

    name: str
    gallery: tuple[str, ...]
    probes: dict[str, tuple[str, ...]]
    views: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    splits: dict[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class Split:
    """The subjects that train and those that are tested; no subject is in both."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def _numbered(pattern: str, numbers) -> tuple[str, ...]:
    return tuple(pattern.format(i) for i in numbers)


CASIA_B = Protocol(
    name="casia_b",
    gallery=_numbered("nm-{:02d}", range(1, 5)),
    probes={"NM": ("nm-05", "nm-06"), "BG": ("bg-01", "bg-02"), "CL": ("cl-01", "cl-02")},
    views=_numbered("{:03d}", range(0, 181, 18)),
    conditions=(*_numbered("nm-{:02d}", range(1, 7)), "bg-01", "bg-02", "cl-01", "cl-02"),
    subjects=_numbered("{:03d}", range(1, 125)),
    splits={
        "st": _numbered("{:03d}", range(1, 25)),
        "mt": _numbered("{:03d}", range(1, 63)),
        "lt": _numbered("{:03d}", range(1, 75)),
        "lt_without_005": tuple(s for s in _numbered("{:03d}", range(1, 75)) if s != "005"),
    },
)

OUMVLP = Protocol(
    name="oumvlp",
    gallery=("01",),
    probes={"NM": ("00",)},
    views=_numbered("{:03d}", (*range(0, 91, 15), *range(180, 271, 15))),
    conditions=("00", "01"),
    subjects=_numbered("{:05d}", range(1, 10308)),
    splits={"official": _numbered("{:05d}", range(1, 10306, 2))},
)

PROTOCOLS = {"casia_b": CASIA_B, "oumvlp": OUMVLP}


def load_protocol(spec: str) -> Protocol:
    """A protocol by its name, or from a JSON file {"gallery": [conditions], "probes": {name: [conditions]}}.

    Raises ValueError that names the file and the fix for anything else.
    """
    if spec in PROTOCOLS:
        return PROTOCOLS[spec]
    content = _read_json(spec, f"config.data.protocol={spec!r} is neither one of {sorted(PROTOCOLS)} nor a file")
    gallery, probes = content.get("gallery"), content.get("probes")
    if not _is_names(gallery) or not isinstance(probes, dict) or not probes or not all(map(_is_names, probes.values())):
        raise ValueError(
            f'{spec}: a protocol is {{"gallery": ["nm-01", ...], "probes": {{"NM": ["nm-05", ...], ...}}}}, '
            f"each a list of condition names that is not empty"
        )
    return Protocol(Path(spec).stem, tuple(gallery), {name: tuple(c) for name, c in probes.items()})


def load_split(spec: str, protocol: Protocol, present: Sequence[str]) -> Split:
    """Cut the subjects of a data set into those that train and those that are tested.

    spec: a published split of the protocol ("lt"), "first-N" (the first N subjects by name train, the rest is
    tested), or a JSON file {"train": [subjects], "test": [subjects]}. present: the subjects of the data set.
    A published split keeps whoever is present; a file must name people who are. Raises ValueError otherwise.
    """
    present = sorted(set(map(str, present)))
    published = protocol.splits or {}
    if spec in published:
        chosen = set(published[spec])
        dropped = set(protocol.splits["lt"]) - chosen if spec == "lt_without_005" else set()
        train = [s for s in present if s in chosen]
        test = [s for s in present if s not in chosen and s not in dropped]
        return Split(spec, tuple(train), tuple(test))
    first = re.fullmatch(r"first-(\d+)", spec)
    if first:
        count = int(first[1])
        if count >= len(present):
            raise ValueError(f"config.data.split={spec!r} leaves nobody to test: the data hold {len(present)} subjects")
        return Split(spec, tuple(present[:count]), tuple(present[count:]))
    train, test = _read_split(spec, published)
    both = sorted(set(train) & set(test))
    if both:
        raise ValueError(f"{spec}: subjects in train and in test: {some(both)}. Take them out of one of the two")
    absent = sorted((set(train) | set(test)) - set(present))
    if absent:
        raise ValueError(f"{spec}: subjects that the data do not hold: {some(absent)}. The data hold {some(present)}")
    return Split(Path(spec).stem, tuple(sorted(set(train))), tuple(sorted(set(test))))


def count_training_subjects(spec: str, protocol: Protocol) -> int:
    """Count the people that a split trains, without the data: all of a published one, N of "first-N", or a file's.

    spec as for `load_split`. Raises ValueError where it is none of them.
    """
    published = protocol.splits or {}
    if spec in published:
        return len(published[spec])
    first = re.fullmatch(r"first-(\d+)", spec)
    if first:
        return int(first[1])
    return len(set(_read_split(spec, published)[0]))


def gallery_and_probes(protocol: Protocol, conditions: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which rows enrol and which are looked up: a bool mask [n], and one mask for every probe set."""
    return (
        np.isin(conditions, protocol.gallery),
        {name: np.isin(conditions, members) for name, members in protocol.probes.items()},
    )


def _read_json(path: str, otherwise: str) -> dict:
    if not Path(path).is_file():
        raise ValueError(otherwise)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def some(names: Iterable[str], most: int = 8) -> str:
    """A few of many names."""
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _read_split(spec: str, published) -> tuple[list[str], list[str]]:
    content = _read_json(
        spec,
        f"config.data.split={spec!r} is neither one of {[*sorted(published), 'first-N']} nor a file",
    )
    train, test = content.get("train"), content.get("test")
    if not _is_names(train, empty=True) or not _is_names(test, empty=True) or not (train or test):
        raise ValueError(f'{spec}: a split is {{"train": ["001", ...], "test": ["075", ...]}}, lists of subject names')
    return train, test


def _is_names(value, empty: bool = False) -> bool:
    return isinstance(value, list) and (empty or value) and all(isinstance(name, str) for name in value)
