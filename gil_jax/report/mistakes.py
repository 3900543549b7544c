"""The section of the worst lookups: each probe with its nearest wrong and its nearest right sequence, all walking."""

from collections import Counter

import numpy as np

from gil_jax.data.lookups import Protocol, names_of
from gil_jax.evaluation.distances import check_finite
from gil_jax.evaluation.embedding import Sequences
from gil_jax.report.blocks import Block, Figure, Missing, Note, Section, Text, name, names, sentence
from gil_jax.report.context import Context, Run, run_by_run
from gil_jax.report.fragments import fill
from gil_jax.report.nearest import Case, Nearest, Worst, find_nearest, find_worst
from gil_jax.report.walkers import Walkers
from gil_jax.types import EmbeddingTable

BUDGET = 1 << 20  # characters of the walkers of this section
MOST = 6  # lookups of a probe set that are shown
TITLE = "The worst mistakes"


def mistakes(context: Context) -> Section:
    """Show the worst lookups of every probe set of every run."""
    walkers = Walkers(BUDGET)
    blocks = run_by_run(context, lambda run, suffix: _show(run, f"mistakes{suffix}", walkers))
    text = "Which walks were taken for somebody else's, and for whose: what the network sees as alike."
    return Section("mistakes", TITLE, text, blocks)


def _show(run: Run, identifier: str, walkers: Walkers) -> list[Block]:
    table, protocol, report = run.embeddings.table, run.protocol, run.report
    try:
        check_finite(table.embeddings, names_of(table, np.arange(len(table.subjects))))
    except ValueError as error:
        raise Missing(sentence("{}.", error)) from error
    rerank = report.get("rerank")
    found = find_nearest(table, protocol, report["metric"], tuple(rerank) if rerank else None)
    blocks: list[Block] = []
    if sample := run.embeddings.about.get("sample"):
        blocks.append(Note(f"Probes and galleries are those of {sample:,} people only: with more, more goes wrong."))
    try:
        source = run.source
    except Missing as missing:
        source = None
        blocks.append(Note(sentence("No walkers are shown. {}", missing.text), "missing"))
    for place, (probe_set, nearest) in enumerate(found.items()):
        worst = find_worst(nearest, MOST)
        if not worst.cases:
            text = "{}: no probe has both a sequence of its own person and one of somebody else in a gallery."
            blocks.append(Note(sentence(text, name(probe_set)), "missing"))
            continue
        cases = [_describe(case, table, source, walkers) for case in worst.cases]
        identifier_of_set = f"{identifier}-{place}"
        blocks.append(
            Figure(
                identifier_of_set,
                sentence("{}: {}", name(probe_set), _title(worst)),
                _text(worst, nearest, protocol, first=place == 0),
                fill(
                    "mistakes.html.j2",
                    cases=cases,
                    walks=any(w["walker"] for case in cases for w in case["walks"]),
                ),
                _finding(worst, table),
                wide=True,
            )
        )
    if missing := walkers.describe_missing():
        blocks.append(Note(missing, "missing"))
    return blocks


def _title(worst: Worst) -> str:
    count = len(worst.cases)
    if worst.errors:
        return f"the {count} worst mistakes" if count > 1 else "the worst mistake"
    return f"no mistakes; the {count} narrowest right answers" if count > 1 else "no mistakes; the narrowest answer"


def _text(worst: Worst, nearest: Nearest, protocol: Protocol, first: bool) -> str:
    """Say how to read the figure, in full for the first probe set."""
    how = {
        "apart": "A lookup is a probe in the gallery of one view other than its own; of each probe its worst is shown.",
        "gallery_together": "A lookup is a probe in the gallery of all views.",
        "together": "A lookup is a probe in the gallery of all views.",
    }[protocol.compare]
    chosen = (
        f" Of {nearest.of:,} probes {len(nearest.probes):,}, evenly spaced, were looked up here."
        if len(nearest.probes) < nearest.of
        else ""
    )
    kind = (
        "Sorted by how much nearer the wrong person is: the worst first."
        if worst.errors
        else "Every nearest sequence is of the right person; these came closest to a mistake."
    )
    if not first:
        return f"{kind}{chosen}"
    return (
        "Left the probe, in the middle the nearest walk of somebody else, right the nearest of the same person, with "
        f"their distances from the probe (a smaller one is more alike). {kind} {how}{chosen} See whether the two on "
        "the left walk alike, or whether a silhouette is damaged."
    )


def _finding(worst: Worst, table: EmbeddingTable) -> Text:
    share = 100 * worst.errors / worst.lookups
    if not worst.errors:
        case = worst.cases[0]
        return sentence(
            "All of {} lookups find the right person; the narrowest by a distance of {}.",
            f"{worst.lookups:,}",
            f"{case.wrong_distance - case.right_distance:.3g}",
        )
    pairs = Counter((str(table.subjects[c.probe]), str(table.subjects[c.wrong])) for c in worst.cases)
    people = sorted({person for person, _ in pairs})
    return sentence(
        "{} of {} lookups ({} %) find somebody else first. The worst are of {}.",
        f"{worst.errors:,}",
        f"{worst.lookups:,}",
        f"{share:.2f}",
        names(people, MOST),
    )


def _describe(case: Case, table: EmbeddingTable, source: Sequences | None, walkers: Walkers) -> dict:
    """Describe the three sequences of a lookup for the template."""
    walks = []
    for role, row, distance in (
        ("Probe", case.probe, None),
        ("Wrong", case.wrong, case.wrong_distance),
        ("Right", case.right, case.right_distance),
    ):
        labels = str(table.subjects[row]), str(table.conditions[row]), str(table.views[row])
        number = walkers.add(source, labels)
        strip = None if number is None else walkers.strips[number]
        walks.append({"role": role, "labels": labels, "distance": distance, "walker": strip})
    return {"gallery": case.gallery, "walks": walks}
