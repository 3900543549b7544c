"""Several runs side by side: paired differences, and which probes one gets right and the other wrong."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from gil_jax.data.lookups import names_of
from gil_jax.evaluate_file import compare_rankings
from gil_jax.evaluation.measures import is_square, score
from gil_jax.evaluation.ranking import Ranking
from gil_jax.report.blocks import Block, Folded, Missing, Note, Section, Table, name, sentence
from gil_jax.report.context import Context, Run

MOST_PROBES = 15  # of a list


class Outcome(NamedTuple):
    """Lookups of the probes of one probe set by two runs. names: of the probes; right: share of each one's lookups.

    both, first, second, neither: the number of lookups that are right by both runs, by one alone, by none.
    """

    names: Shaped[np.ndarray, " a"]
    right: Float[np.ndarray, "two a"]
    both: int
    first: int
    second: int
    neither: int


def comparison(context: Context) -> Section:
    """Compare every other run with the first: differences with intervals, and the lookups in which they differ."""
    if len(context.runs) < 2:
        return Section("comparison", "Side by side", "", [])
    first, *others = context.runs
    blocks: list[Block] = []
    for other in others:
        try:
            blocks += _pair(first, other)
        except (Missing, ValueError) as error:
            text = error.text if isinstance(error, Missing) else str(error)
            title = sentence("{} and {} are not compared: {}", name(first.name), name(other.name), text)
            blocks.append(Note(title, "missing"))
    text = sentence(
        "Each run against {}, on the same probes. The interval is of the difference over draws of people, the same "
        "people for both (paired bootstrap, 95 %): where it does not hold 0 the difference is more than luck with the "
        "people. A lookup is one probe in one gallery view, without identical views.",
        name(first.name),
    )
    return Section("comparison", "Side by side", text, blocks)


def _pair(first: Run, second: Run) -> list[Block]:
    check_same_evaluation(first, second)
    rankings = {probe_set: (r, second.rankings[probe_set]) for probe_set, r in first.rankings.items() if len(r.rows)}
    counts, differences, squares, lists = first.protocol.counts, [], [], []
    for probe_set, pair in rankings.items():
        outcome = compare_lookups(first, second, pair, counts)
        found = compare_rankings(list(pair), counts)
        low, high = found["interval"] or (None, None)
        clear = "not clear" if low is None or high is None or low <= 0 <= high else "clear"
        row = [found["first"], found["second"], found["difference"], low, high]
        differences.append([name(probe_set), *row, clear])
        squares.append([name(probe_set), outcome.both, outcome.first, outcome.second, outcome.neither])
        lists += _lists(first, second, probe_set, outcome)
    a, b = name(first.name), name(second.name)
    columns = ["probes", a, b, "difference", "95 % from", "to", "which is"]
    caption = sentence("Rank-1 (%) of {} and of {}, and their difference", a, b)
    squared = ["probes", "both right", sentence("{} alone", a), sentence("{} alone", b), "none right"]
    return [
        Table(caption, columns, differences, digits=2),
        Table(sentence("Lookups that {} and {} get right", a, b), squared, squares),
        *lists,
    ]


def check_same_evaluation(first: Run, second: Run) -> None:
    """Raise Missing unless two runs were evaluated on the same sequences with the same protocol."""
    for field in ("dataset", "split", "protocol"):
        values = [run.report[field] for run in (first, second)]
        if values[0] != values[1]:
            raise Missing(sentence("their {} differ, {} and {}.", field, *map(name, values)))
    fingerprints = [run.embeddings.about.get("data") for run in (first, second)]
    if fingerprints[0] != fingerprints[1]:
        raise Missing(sentence("they were evaluated on two versions of the data ({} and {}).", *fingerprints))


def compare_lookups(first: Run, second: Run, pair: tuple[Ranking, Ranking], counts: str) -> Outcome:
    """Count the lookups that two runs get right; raises Missing where they have other probes."""
    names = [np.array(names_of(run.embeddings.table, r.rows)) for run, r in zip((first, second), pair, strict=True)]
    if not np.array_equal(names[0], names[1]):
        raise Missing("they have other probes.")
    right = [_right(ranking, counts) for ranking in pair]
    counted = ~np.isnan(right[0]) & ~np.isnan(right[1])
    hits: list[Bool[np.ndarray, "a g"]] = [(values == 1) & counted for values in right]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([hit.sum(axis=1) / counted.sum(axis=1) for hit in hits])
    both = int((hits[0] & hits[1]).sum())
    first_alone, second_alone = (int(hit.sum()) - both for hit in hits)
    neither = int(counted.sum()) - both - first_alone - second_alone
    return Outcome(names[0], shares, both, first_alone, second_alone, neither)


def _right(ranking: Ranking, counts: str) -> Float[np.ndarray, "a g"]:
    """Tell whether each lookup finds the right person first: 1, 0, or NaN where it does not count."""
    values = score(ranking, "rank1", counts)
    if is_square(ranking) and len(ranking.views) > 1:
        values = np.where(ranking.view[:, None] == np.arange(values.shape[1]), np.nan, values)
    return values


def _lists(first: Run, second: Run, probe_set: str, outcome: Outcome) -> list[Folded]:
    """List the probes that one of the two gets right more often."""
    gain = np.nan_to_num(outcome.right[1] - outcome.right[0])
    folded = []
    for better, sign in ((second, 1), (first, -1)):
        order = np.argsort(-sign * gain, kind="stable")
        better_there = order[sign * gain[order] > 0]
        rows = [
            [name(outcome.names[row]), *(100 * float(share) for share in outcome.right[:, row])]
            for row in better_there[:MOST_PROBES]
        ]
        if rows:
            title = sentence(
                "{}: {} probes that {} gets right more often", name(probe_set), len(better_there), name(better.name)
            )
            shown = f"The {MOST_PROBES} with the largest difference." if len(better_there) > MOST_PROBES else ""
            caption = sentence("{}; lookups right, in percent", title)
            folded.append(
                Folded(title, Table(caption, ["probe", name(first.name), name(second.name)], rows, note=shown))
            )
    return folded
