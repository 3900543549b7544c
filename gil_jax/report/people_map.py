"""The section with the map of embeddings: a scatter of sequences whose points show walkers."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from markupsafe import Markup

from gil_jax.report.blocks import Block, Figure, Missing, Note, Section, name, sentence
from gil_jax.report.context import Context, Run, run_by_run
from gil_jax.report.embedding_map import MOST_SEQUENCES, Map, choose_sequences, is_finite, project
from gil_jax.report.fragments import count, fill
from gil_jax.report.walkers import Walkers
from gil_jax.types import EmbeddingTable

HUES, MARKS, STEPS = 8, 5, 11  # colours of series, shapes of points, colours of an ordered scale, of people.css
WIDTH, MARGIN = 640.0, 26.0
TITLE = "People on a map"
_TEXT = (
    "Each point is one walk, placed by {} so that walks with similar embeddings lie close together. Look for islands: "
    "points of one person should form one, apart from the others, whatever the view and the condition. Distances "
    "between islands and the size of an island mean little. Choose what colours stand for; hover over, focus or press "
    "a name of the legend to see its points alone. Click a point to see the walk, or move from point to point with the "
    "arrow keys."
)
_TEXT_AFTER = "The same for this run, by {}; places on two maps can't be compared, only how well people are apart."


class Entry(NamedTuple):
    """An entry of a legend. hue: class of its colour; mark: number of its shape; count: points that have it."""

    label: str
    hue: str
    mark: int
    count: int


class Legend(NamedTuple):
    """Legend of colours and shapes. entry: for each point the number of its entry."""

    key: str
    title: str
    entries: list[Entry]
    entry: list[int]


def people_map(context: Context) -> Section:
    """Draw the map of every run, of the same people and as many sequences."""
    walkers = Walkers()
    most = MOST_SEQUENCES // max(len(context.runs), 1)
    blocks = run_by_run(context, lambda run, suffix: _draw(run, f"map{suffix}", most, walkers))
    if walkers.strips:
        _attach(blocks, fill("strips.html.j2", strips=walkers.strips))
    text = "Embeddings of people whom the network never saw in training, laid out in the plane."
    return Section("map", TITLE, text, blocks)


def _attach(blocks: list[Block], more: Markup) -> None:
    """Append HTML to the last figure."""
    for i in reversed(range(len(blocks))):
        block = blocks[i]
        if isinstance(block, Figure) and isinstance(block.body, Markup):
            blocks[i] = block._replace(body=block.body + more)
            return


def _draw(run: Run, identifier: str, most: int, walkers: Walkers) -> list[Block]:
    table = run.embeddings.table
    chosen = choose_sequences(table, sequences=most)
    vectors = np.asarray(table.embeddings[chosen])
    finite = is_finite(vectors)
    if not finite.any():
        raise Missing(sentence("None of the embeddings of {} is finite: there is nothing to draw.", name(run.name)))
    rows = chosen[finite]
    shown = EmbeddingTable(vectors[finite], table.subjects[rows], table.conditions[rows], table.views[rows])
    laid_out = project(vectors[finite], run.report["metric"])
    source, notes = None, []
    try:
        source = run.source
    except Missing as missing:
        notes.append(sentence("No walkers are shown. {}", missing.text))
    labels = list(zip(shown.subjects.tolist(), shown.conditions.tolist(), shown.views.tolist(), strict=True))
    numbers = [walkers.add(source, label) for label in labels]
    if left_out := int((~finite).sum()):
        notes.append(f"{left_out:,} of {len(finite):,} sequences have no finite embedding and are not drawn.")
    if missing_walkers := walkers.describe_missing():
        notes.append(missing_walkers)
    alt = describe_map(shown, laid_out)
    positions, height = fit(laid_out.positions)
    body = fill(
        "people_map.html.j2",
        id=identifier,
        alt=Markup(alt).striptags(),
        legends=make_legends(shown),
        labels=labels,
        tags=_person_tags(shown.subjects, positions),
        positions=positions.tolist(),
        size=(WIDTH, height),
        radius=4.2 if len(rows) > 400 else 6.0,
        points=[[number, int(near)] for number, near in zip(numbers, laid_out.nearest.tolist(), strict=True)],
        walks=any(number is not None for number in numbers),
    )
    how = (_TEXT if identifier == "map-0" else _TEXT_AFTER).format(_method(laid_out))
    text = " ".join([how, _sampled(table, shown, most)])
    people = len(set(shown.subjects.tolist()))
    title = f"Embeddings of {count(len(rows), 'walk', 'walks')} of {count(people, 'person', 'people')}"
    return [Figure(identifier, title, text, body, alt, wide=True), *(Note(note, "missing") for note in notes)]


def _method(laid_out: Map) -> str:
    if laid_out.perplexity is None:
        return "their two principal components (there are too few for t-SNE)"
    return f"t-SNE (perplexity {laid_out.perplexity:.0f})"


def _sampled(table: EmbeddingTable, shown: EmbeddingTable, most: int) -> str:
    """Say how the sample was drawn, where not everything is shown."""
    if len(shown.subjects) == len(table.subjects):
        return "All sequences of the people tested are drawn."
    people = len(set(table.subjects.tolist())), len(set(shown.subjects.tolist()))
    return (
        f"Drawn are {len(shown.subjects):,} of {len(table.subjects):,} sequences and {people[1]:,} of {people[0]:,} "
        f"people (at most {most:,} sequences): as many of each person, conditions and views in equal shares."
    )


def describe_map(shown: EmbeddingTable, laid_out: Map) -> Markup:
    """Say of what person, view and condition the nearest other sequence is, in percent of the sequences drawn."""
    near = laid_out.nearest
    if len(near) < 2:
        return Markup("One sequence alone.")
    shares = {}
    for what, labels in (("person", shown.subjects), ("view", shown.views), ("condition", shown.conditions)):
        _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
        usable = counts[place] > 1
        if usable.any() and len(counts) > 1:
            shares[what] = 100 * float((labels[near] == labels)[usable].mean())
    if not shares:
        return Markup(f"{len(near):,} sequences of one person in one view and condition.")
    listed = ", ".join(f"of the same {what} for {share:.1f} %" for what, share in shares.items())
    return sentence("The nearest other walk, by the distance of the evaluation, is {} of the walks drawn.", listed)


def make_legends(shown: EmbeddingTable) -> list[Legend]:
    """Legends by person, by view and by kind of condition."""
    kinds = [kind_of_condition(condition) for condition in shown.conditions.tolist()]
    return [
        _legend("person", "Person", shown.subjects.tolist()),
        _legend("view", "View", shown.views.tolist()),
        _legend("condition", "Condition", kinds),
    ]


def kind_of_condition(condition: str) -> str:
    """Take the number off the end of a condition: "nm-01" is one of "nm"."""
    return re.sub(r"[\s_.#-]*\d+$", "", condition) or condition


def _legend(key: str, title: str, labels: Sequence[str]) -> Legend:
    """Give each label an entry; beyond HUES * MARKS labels, the rarest share one."""
    counts = Counter(labels)
    kept = [label for label, _ in counts.most_common(HUES * MARKS if len(counts) <= HUES * MARKS else HUES * MARKS - 1)]
    numeric = all(re.fullmatch(r"\d+", label) for label in kept)
    kept = sorted(kept, key=(lambda label: (int(label), label)) if numeric else None)
    ordered = key == "view" and numeric and len(kept) > 2
    entries = []
    for i, label in enumerate(kept):
        hue = f"ramp-{round(i * (STEPS - 1) / (len(kept) - 1))}" if ordered else f"f-s{i % HUES}"
        entries.append(Entry(label, hue, i % MARKS if ordered else (i + i // HUES) % MARKS, counts[label]))
    if others := len(labels) - sum(counts[label] for label in kept):
        entries.append(Entry(f"{len(counts) - len(kept):,} others", "f-muted", 0, others))
    place = {label: i for i, label in enumerate(kept)}
    return Legend(key, title, entries, [place.get(label, len(kept)) for label in labels])


def fit(positions: Float[np.ndarray, "m 2"]) -> tuple[Float[np.ndarray, "m 2"], float]:
    """Scale positions into the picture, both axes alike, the longer one across: (positions, height)."""
    low, span = positions.min(axis=0), np.ptp(positions, axis=0)
    if span[1] > span[0]:
        positions, low, span = positions[:, ::-1], low[::-1], span[::-1]
    scale = (WIDTH - 2 * MARGIN) / span[0] if span[0] > 0 else 0.0
    height = max(float(span[1] * scale) + 2 * MARGIN, 120.0)
    placed = (positions - low - span / 2) * scale + np.array([WIDTH / 2, height / 2])
    return placed.round(1), round(height, 1)


def _person_tags(
    subjects: Shaped[np.ndarray, " m"], placed: Float[np.ndarray, "m 2"]
) -> list[tuple[str, float, float]]:
    """Name of each person at the median of its points; of names that would overlap the later ones move down."""
    tags: list[tuple[str, float, float]] = []
    for person in np.unique(subjects).tolist():
        x, y = np.median(placed[subjects == person], axis=0).tolist()
        while any(abs(x - other) < 34 and abs(y - above) < 13 for _, other, above in tags):
            y += 13
        tags.append((person, round(x, 1), round(y, 1)))
    return tags
