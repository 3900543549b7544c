"""The semantics of a protocol: which sequences are enrolled, which are looked up, and what is compared with what."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, runtime_checkable
from typing import Protocol as Interface

import numpy as np
from jaxtyping import Bool, Int, Shaped

from gil_jax.data.names import shorten

VIEWS = ("apart", "gallery_together", "together")
COUNTS = ("all", "with_gallery")


@dataclass(frozen=True)
class Submission:
    """The file of nearest people for probes that nobody here can label.

    label: "condition", "view" or "sequence", the column that names a probe; header: the names of the columns, the
    probe's first, then one for each of the nearest gallery sequences. as_numbers: write "00042" as 42.
    """

    label: str = "sequence"
    as_numbers: bool = False
    header: tuple[str, ...] = ("sequence", *(f"rank{i}" for i in range(1, 21)))


@dataclass(frozen=True)
class Protocol:
    """Protocol of the evaluation of a data set.

    gallery, probes, galleries and distractors hold names: of a condition ("nm-01"), of a condition with `*` for any
    letters ("*bg*"), or of a sequence ("001/nm-01/090", also with `*`, or "001-nm-01-090" as OpenGait spells it).

    gallery: the enrolled sequences; empty: all that no probe set holds. probes: name of a probe set -> the sequences
    that are looked up. galleries: the gallery of a probe set that has its own. distractors: sequences in every gallery,
    whoever they are of. unlabelled: subjects that stand for unknown people; their probes are looked up for the
    submission file alone.
    compare: "apart" looks up every probe view in every gallery view; "gallery_together" every probe view in one gallery
    of all views; "together" all probes in that gallery.
    counts: whether a probe without a gallery sequence of its person counts as a miss ("all") or not ("with_gallery").
    without_same_view: leave out gallery sequences of the probe's person in the probe's view. leave_one_out: a
    sequence may be gallery and probe, and is left out where it would find itself. without_views: views that are left
    out. view_separator: views are the same where they agree up to its first occurrence.
    views, conditions, subjects: what the published data set holds (empty: nothing is expected). splits: name of a
    published split -> the subjects that train; everybody else is tested.
    """

    name: str
    gallery: tuple[str, ...]
    probes: dict[str, tuple[str, ...]]
    views: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    splits: dict[str, tuple[str, ...]] | None = None
    galleries: dict[str, tuple[str, ...]] = field(default_factory=dict)
    distractors: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    compare: str = "apart"
    counts: str = "all"
    without_same_view: bool = False
    leave_one_out: bool = False
    without_views: tuple[str, ...] = ()
    view_separator: str = ""
    submission: Submission = Submission()


@runtime_checkable
class Labels(Interface):
    """Labels of sequences, str [n] each: a SequenceTable or an EmbeddingTable."""

    @property
    def subjects(self) -> Shaped[np.ndarray, " n"]: ...  # noqa: D102

    @property
    def conditions(self) -> Shaped[np.ndarray, " n"]: ...  # noqa: D102

    @property
    def views(self) -> Shaped[np.ndarray, " n"]: ...  # noqa: D102


class Lookup(NamedTuple):
    """Rows of a table that a probe set compares: probes and unlabelled probes against gallery, int each."""

    probes: Int[np.ndarray, " a"]
    gallery: Int[np.ndarray, " b"]
    unlabelled: Int[np.ndarray, " u"]


def lookups(protocol: Protocol, table: Labels) -> dict[str, Lookup]:
    """Find gallery and probes of every probe set among the sequences of a table.

    Raises ValueError that names the sequences where a sequence would be in its own gallery, unless the protocol leaves
    it out.
    """
    if not all(protocol.probes.values()):
        raise ValueError(
            f"The protocol {protocol.name!r} has no list of probes: give config.data.protocol={protocol.name}:<file>, "
            f"a JSON file with PROBE_SET, as OpenGait has one"
        )
    seen = ~np.isin(table.views, protocol.without_views)
    unknown = np.isin(table.subjects, protocol.unlabelled)
    distractors = matches(protocol.distractors, table) & seen & ~unknown
    probes = {name: matches(members, table) & seen & ~distractors for name, members in protocol.probes.items()}
    rest = seen & ~unknown & ~np.any(list(probes.values()), axis=0)
    found = {}
    for name, mask in probes.items():
        members = protocol.galleries.get(name, protocol.gallery)
        gallery = matches(members, table) & seen & ~unknown if members else rest
        gallery = gallery | distractors
        both = np.flatnonzero(mask & gallery & ~unknown)
        if len(both) and not protocol.leave_one_out:
            conditions = sorted(set(table.conditions[both].tolist()))
            raise ValueError(
                f"The protocol {protocol.name!r} has {len(both):,} sequences that are gallery and probe {name} at once "
                f"and would find themselves: {shorten(names_of(table, both))} (conditions {shorten(conditions)}). Take "
                f'them out of one of the two, or write "leave_one_out": true'
            )
        rows = [np.flatnonzero(m) for m in (mask & ~unknown, gallery, mask & unknown)]
        found[name] = Lookup(*rows)
    return found


def rows_of_protocol(protocol: Protocol, tested: Iterable[str], trained: Iterable[str], table: Labels) -> np.ndarray:
    """Rows that an evaluation embeds: all of the people tested, and distractors of people who did not train."""
    distractors = matches(protocol.distractors, table) & ~np.isin(table.subjects, list(trained))
    return np.flatnonzero(np.isin(table.subjects, list(tested)) | distractors)


def matches(names: Iterable[str], table: Labels) -> Bool[np.ndarray, " n"]:
    """Tell which sequences of a table the names of a protocol stand for."""
    names = tuple(names)
    plain = [name for name in names if "/" not in name and "*" not in name]
    found = np.isin(table.conditions, plain)
    if any(name.count("-") >= 2 for name in plain):
        found |= np.isin(_joined(table, "-"), plain)
    for patterns, labels in (
        ([n for n in names if "/" not in n and "*" in n], lambda: table.conditions),
        ([n for n in names if "/" in n], lambda: _joined(table, "/")),
    ):
        if patterns:
            exact, globs = [p for p in patterns if "*" not in p], [p for p in patterns if "*" in p]
            every = re.compile("|".join(".*".join(map(re.escape, glob.split("*"))) for glob in globs) or r"(?!)")
            distinct, place = np.unique(labels(), return_inverse=True)
            hit = np.array([every.fullmatch(label) is not None for label in distinct.tolist()], bool)
            found |= (hit | np.isin(distinct, exact))[place]
    return found


def compared_views(protocol: Protocol, views: Shaped[np.ndarray, " n"]) -> Shaped[np.ndarray, " n"]:
    """Views as the protocol tells them apart: up to its separator."""
    if not protocol.view_separator or len(views) == 0:
        return views
    return np.array([view.partition(protocol.view_separator)[0] for view in views.tolist()])


def parse_protocol(file: str, content: dict[str, Any]) -> Protocol:
    """Read a protocol from the content of a JSON file; docs/evaluation.md lists its keys.

    Raises ValueError that names the file and the key for what is not understood.
    """
    if "PROBE_SET" in content:
        content = {"probe_sequences": content["PROBE_SET"], "views": "together", "counts": "with_gallery"}
    if "probe_sequences" in content and "probes" not in content:
        content = {"gallery": "rest", **content, "probes": {"probes": content["probe_sequences"]}}
        del content["probe_sequences"]
    unknown = sorted(content.keys() - _KEYS)
    probes, gallery = content.get("probes"), content.get("gallery")
    sets = (
        {name: p if isinstance(p, dict) else {"probes": p} for name, p in (probes or {}).items()}
        if isinstance(probes, dict)
        else {}
    )
    wrong = [f"it has no key {key!r}" for key in unknown]
    if not sets or not all(_is_names(p.get("probes")) for p in sets.values()):
        wrong.append('"probes" is {"NM": ["nm-05", ...], ...}')
    own = {name: p["gallery"] for name, p in sets.items() if "gallery" in p}
    if not all(map(_is_names, own.values())) or not (
        gallery == "rest" or _is_names(gallery) or own.keys() == sets.keys()
    ):
        wrong.append('"gallery" is a list of names, or "rest"')
    wrong += [
        f"{key!r} is a list of names"
        for key in ("distractors", "unlabelled", "without_views")
        if not _is_names(content.get(key, []), empty=True)
    ]
    for key, choices in (("views", VIEWS), ("counts", COUNTS)):
        if content.get(key, choices[0]) not in choices:
            wrong.append(f"{key!r} is one of {', '.join(choices)}")
    wrong += [f"{key!r} is true or false" for key in _FLAGS if not isinstance(content.get(key, False), bool)]
    if wrong:
        raise ValueError(
            f'{file}: a protocol is {{"gallery": ["nm-01", ...], "probes": {{"NM": ["nm-05", ...], ...}}}}, lists of '
            f"conditions or sequences that are not empty, and the options of docs/evaluation.md: {'; '.join(wrong)}"
        )
    return Protocol(
        Path(file).stem,
        () if gallery in ("rest", None) else tuple(gallery),
        {name: tuple(p["probes"]) for name, p in sets.items()},
        galleries={name: tuple(names) for name, names in own.items()},
        compare=content.get("views", "apart"),
        counts=content.get("counts", "all"),
        view_separator=str(content.get("view_separator", "")),
        **{key: tuple(content.get(key, ())) for key in ("distractors", "unlabelled", "without_views")},
        **{key: content.get(key, False) for key in _FLAGS},
    )


_FLAGS = ("without_same_view", "leave_one_out")
_KEYS = {
    "gallery",
    "probes",
    "probe_sequences",
    "views",
    "counts",
    "distractors",
    "unlabelled",
    "without_views",
    "view_separator",
    *_FLAGS,
}


def names_of(table: Labels, rows: Int[np.ndarray, " m"]) -> list[str]:
    """Spell subject/condition/view of some rows."""
    columns = (table.subjects[rows].tolist(), table.conditions[rows].tolist(), table.views[rows].tolist())
    return ["/".join(labels) for labels in zip(*columns, strict=True)]


def _joined(table: Labels, separator: str) -> np.ndarray:
    columns = (table.subjects.tolist(), table.conditions.tolist(), table.views.tolist())
    return np.array([separator.join(labels) for labels in zip(*columns, strict=True)], str)


def _is_names(value: object, empty: bool = False) -> bool:
    return isinstance(value, list) and (empty or bool(value)) and all(isinstance(name, str) for name in value)
