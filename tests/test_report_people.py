"""The sections of a report about people: map, worst mistakes, similarity matrices, walking silhouettes."""

import base64
import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from gil_jax.data.lookups import Protocol, lookups
from gil_jax.data.source import SequenceTable
from gil_jax.data.transforms import cut_columns
from gil_jax.evaluation.distances import part_distances
from gil_jax.evaluation.ranking import rank
from gil_jax.evaluation.store import EmbeddingFile
from gil_jax.report import embedding_map, nearest, similarity, walkers
from gil_jax.report.blocks import Figure, Note, Table
from gil_jax.report.context import Context, Evaluation, Run
from gil_jax.report.fragments import plain
from gil_jax.report.matrices import matrices
from gil_jax.report.mistakes import mistakes
from gil_jax.report.people_map import kind_of_condition, make_legends, people_map
from gil_jax.types import EmbeddingTable

HOSTILE = "</script><b>\"é'\u202eevil 😀"
CONDITIONS, VIEWS = ("nm-01", "nm-02", "bg-01"), ("000", "090")


def make_table(people=4, noise=0.8, seed=0, subjects=None):
    rng = np.random.default_rng(seed)
    names = subjects or [f"{person:03d}" for person in range(people)]
    labels = [(name, condition, view) for name in names for condition in CONDITIONS for view in VIEWS]
    centres = {name: rng.normal(size=(3, 5)) for name in names}
    embeddings = np.stack([centres[label[0]] + noise * rng.normal(size=(3, 5)) for label in labels])
    return EmbeddingTable(embeddings.astype(np.float32), *(np.array(c, str) for c in zip(*labels, strict=True)))


def make_source(table, lengths=(30,)):
    rng = np.random.default_rng(1)
    frames = [
        (rng.random((length, 64, 64)) < 0.5).astype(np.uint8) * 255 for length in np.resize(lengths, len(table[1]))
    ]
    labels = SequenceTable(*table[1:], np.array([len(f) for f in frames]))

    class Source:
        table, height = labels, 64

        def __getitem__(self, index):
            return frames[index]

    return Source()


def make_run(table, protocol, source=None, name="run"):
    """A run that has read its embeddings, its protocol and, if given, its source."""
    evaluation = Evaluation(Path("eval.json"), {"metric": "euclidean", "rerank": None})
    run = Run(Path(name), name, None, None, None, [], [evaluation], evaluation, [])
    read = {"embeddings": EmbeddingFile(table, {}), "protocol": protocol}
    run.__dict__.update(read if source is None else {**read, "source": source})
    return run


PROTOCOL = Protocol("test", ("nm-01",), {"NM": ("nm-02",), "BG": ("bg-01",)})


@pytest.mark.parametrize(
    ("changes", "metric"),
    [
        ({}, "euclidean"),
        ({"compare": "together", "without_same_view": True}, "cosine"),
        ({"compare": "gallery_together", "leave_one_out": True, "gallery": ("nm-01", "nm-02")}, "euclidean"),
    ],
)
def test_the_worst_mistakes_are_those_of_a_plain_loop(changes, metric):
    table, protocol = make_table(people=5, noise=1.5), dataclasses.replace(PROTOCOL, **changes)
    rankings = rank(table, protocol, metric)
    found = nearest.find_nearest(table, protocol, metric)
    assert found.keys() == {"NM", "BG"}
    for name, lookup in lookups(protocol, table).items():
        distance = part_distances(table.embeddings, table.embeddings, metric)
        cases = {}
        errors = number = 0
        for probe in lookup.probes.tolist():
            galleries = VIEWS if protocol.compare == "apart" else ("all",)
            for gallery in galleries:
                if gallery == table.views[probe] and protocol.compare == "apart":
                    continue
                rows = [
                    row
                    for row in lookup.gallery.tolist()
                    if gallery in ("all", table.views[row])
                    and row != probe
                    and not (
                        protocol.without_same_view
                        and table.subjects[row] == table.subjects[probe]
                        and table.views[row] == table.views[probe]
                    )
                ]
                own = [row for row in rows if table.subjects[row] == table.subjects[probe]]
                other = [row for row in rows if table.subjects[row] != table.subjects[probe]]
                right = min(own, key=lambda row: distance[probe, row])
                wrong = min(other, key=lambda row: distance[probe, row])
                margin = distance[probe, right] - distance[probe, wrong]
                errors, number = errors + (margin >= 0), number + 1
                if probe not in cases or margin > cases[probe][0]:
                    cases[probe] = margin, gallery, right, wrong
        worst = nearest.find_worst(found[name], 4)
        assert (worst.lookups, worst.errors) == (number, errors)
        assert errors > 0
        wanted = sorted(((p, *c) for p, c in cases.items() if c[0] >= 0), key=lambda c: -c[1])[:4]
        assert [(c.probe, c.gallery, c.right, c.wrong) for c in worst.cases] == [(p, *c) for p, _, *c in wanted]
        for case in worst.cases:
            np.testing.assert_allclose(case.right_distance, distance[case.probe, case.right], rtol=1e-4)
            np.testing.assert_allclose(case.wrong_distance, distance[case.probe, case.wrong], rtol=1e-4)
        # The evaluation counts as many.
        ranking = rankings[name]
        counted = np.ones(ranking.first.shape, bool)
        if protocol.compare == "apart":
            counted[np.arange(len(counted)), ranking.view] = False
        assert ((ranking.first > 1) & counted).sum() == errors


def test_without_mistakes_the_narrowest_right_answers_are_shown():
    table = make_table(noise=0.01)
    worst = nearest.find_worst(nearest.find_nearest(table, PROTOCOL)["NM"], 3)
    assert worst.errors == 0
    assert len(worst.cases) == 3
    margins = [case.right_distance - case.wrong_distance for case in worst.cases]
    assert margins == sorted(margins, reverse=True)
    assert max(margins) < 0


def test_of_too_many_probes_some_are_looked_up():
    table = make_table(people=6)
    found = nearest.find_nearest(table, PROTOCOL, most_pairs=5 * 12)["NM"]
    assert (len(found.probes), found.of) == (5, 12)
    everything = nearest.find_nearest(table, PROTOCOL)["NM"]
    place = np.searchsorted(everything.probes, found.probes)
    np.testing.assert_array_equal(found.wrong, everything.wrong[place])


def test_the_sample_of_the_map_is_stratified():
    rows = [(f"{p:03d}", f"nm-{c:02d}", f"{v:03d}") for p in range(50) for c in range(10) for v in range(0, 198, 18)]
    rows = [row for row in rows if row[0] != "000" or row[1:] == ("nm-00", "000")]
    table = EmbeddingTable(np.zeros((len(rows), 1, 1), np.float32), *map(np.array, zip(*rows, strict=True)))
    chosen = embedding_map.choose_sequences(table)
    assert len(chosen) == 1200
    assert len(set(chosen.tolist())) == 1200
    people, counts = np.unique(table.subjects[chosen], return_counts=True)
    assert len(people) == 40
    assert counts[0] == 1  # all that there is of this person; its share goes to the others
    assert set(counts[1:].tolist()) <= {30, 31}
    for person in people[1:]:
        own = chosen[table.subjects[chosen] == person]
        for labels, kinds in ((table.conditions, 10), (table.views, 11)):
            _, number = np.unique(labels[own], return_counts=True)
            assert len(number) == kinds
            assert number.max() - number.min() <= 2
    np.testing.assert_array_equal(chosen, embedding_map.choose_sequences(table))
    np.testing.assert_array_equal(embedding_map.choose_sequences(make_table()), np.arange(24))


def test_input_of_the_map_ranks_pairs_as_the_metric_does():
    x = np.random.default_rng(0).normal(size=(20, 3, 5)).astype(np.float32) * np.arange(1, 21)[:, None, None]
    rows = embedding_map.tsne_input(x, "cosine")
    apart = np.linalg.norm(rows[:, None] - rows, axis=2) ** 2
    wanted = part_distances(x, x, "cosine")
    pairs = np.triu_indices(20, 1)
    np.testing.assert_allclose(apart[pairs] / apart[pairs].max(), wanted[pairs] / wanted[pairs].max(), atol=1e-4)
    flat = (x - x.mean(axis=0)).reshape(20, -1)
    np.testing.assert_allclose(embedding_map.tsne_input(x, "euclidean"), flat / np.abs(flat).max(), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 24])
def test_maps_of_few_sequences(count):
    table = make_table(noise=0.05)
    x = table.embeddings[:count]
    laid_out = embedding_map.project(x)
    assert laid_out.positions.shape == (count, 2)
    assert np.isfinite(laid_out.positions).all()
    assert laid_out.perplexity == (None if count < 5 else pytest.approx((count - 1) / 3))
    np.testing.assert_array_equal(laid_out.positions, embedding_map.project(x).positions)
    if count == 1:
        assert laid_out.nearest.tolist() == [-1]
    elif count:
        distance = part_distances(x, x) + np.diag(np.full(count, np.inf))
        assert laid_out.nearest.tolist() == distance.argmin(axis=1).tolist()
    if count == 24:  # people are islands
        apart = np.linalg.norm(laid_out.positions[:, None] - laid_out.positions, axis=2) + np.diag(np.full(24, np.inf))
        assert (table.subjects[apart.argmin(axis=1)] == table.subjects).all()


def test_a_map_of_equal_embeddings_is_a_point():
    laid_out = embedding_map.project(np.full((9, 2, 3), 0.1, np.float32))
    assert not laid_out.positions.any()


def test_similarity_against_a_plain_loop():
    table = make_table(people=3)
    x, people = table.embeddings, table.subjects
    result = similarity.compare_sequences(x, people)
    u = x / np.linalg.norm(x, axis=2, keepdims=True)
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    cosine = {(i, j): np.mean([u[i, p] @ u[j, p] for p in range(3)]) for i, j in pairs}
    same = [pair for pair in pairs if people[pair[0]] == people[pair[1]]]
    assert result.within == pytest.approx(np.mean([cosine[pair] for pair in same]), abs=1e-5)
    assert result.between == pytest.approx(np.mean([cosine[pair] for pair in pairs if pair not in same]), abs=1e-5)
    squares = {(i, j): ((u[i] - u[j]) ** 2).sum(axis=1) for i, j in pairs}
    assert result.alignment == pytest.approx(np.mean([squares[pair] for pair in same]), abs=1e-5)
    potential = np.mean([np.exp(-2 * squares[pair]) for pair in pairs], axis=0)
    assert result.uniformity == pytest.approx(np.log(potential).mean(), abs=1e-5)


def test_the_subset_of_the_matrix_is_one_view_by_person():
    table = make_table(people=30)
    rows = similarity.choose_subset(
        table, dataclasses.replace(PROTOCOL, gallery=("nm-01", "nm-02"), probes={"B": ("bg-01",)})
    )
    assert len(rows) == 24 * 2
    assert len(set(table.views[rows].tolist())) == 1
    assert set(table.conditions[rows].tolist()) == {"nm-01", "nm-02"}
    assert table.subjects[rows].tolist() == sorted(table.subjects[rows].tolist())


@pytest.mark.parametrize("length", [1, 7, 30, 90])
def test_strips_are_the_frames_of_the_source(length):
    table = make_table(people=1)
    source, made = make_source(table, (length,)), walkers.Walkers()
    number = made.add(source, ("000", "nm-02", "090"))
    assert made.add(source, ("000", "nm-02", "090")) == number == 0
    strip = cv2.imdecode(np.frombuffer(base64.b64decode(made.strips[0]), np.uint8), cv2.IMREAD_UNCHANGED)
    frames = source[3]
    picked = walkers.gait_cycle(frames)
    assert picked.min() >= 0
    assert picked.max() < length
    np.testing.assert_array_equal(strip.reshape(walkers.FRAMES, 64, 44), cut_columns(frames[picked]))


def test_a_strip_plays_one_cycle():
    phase = np.arange(90) % 24
    frames = np.zeros((90, 64, 64), np.uint8)
    frames[np.arange(90), 30, 12 + phase] = 255
    picked = walkers.gait_cycle(frames)
    assert picked[0] == 25
    assert (picked - 25).tolist() == [24 * i // 12 for i in range(12)]


def test_walkers_that_are_missing():
    table = make_table(people=2)
    source = make_source(table)
    made = walkers.Walkers(budget=16_000)
    numbers = [made.add(source, labels) for labels in zip(*(column.tolist() for column in table[1:]), strict=True)]
    assert numbers.count(None) == made.left_out == len(table.subjects) - len(made.strips)
    assert sum(map(len, made.strips)) <= 16_000
    assert len(made.strips) == 2
    assert f"{made.left_out:,} walkers are left out" in made.describe_missing()
    assert made.add(source, ("nobody", "nm-01", "000")) is None
    assert made.add(None, ("000", "nm-01", "000")) is None
    large = walkers.draw_strip(np.full((3, 128, 128), 255, np.uint8))
    assert large.shape == (12 * 64, 44)
    broken = make_source(table, (0,))
    assert walkers.Walkers().add(broken, ("000", "nm-01", "000")) is None


def test_legends():
    table = make_table(people=45)
    person, view, condition = make_legends(table)
    assert len(person.entries) == 40
    assert person.entries[-1].label == "6 others"
    assert len({(entry.hue, entry.mark) for entry in person.entries[:-1]}) == 39
    assert sum(entry.count for entry in person.entries) == len(table.subjects)
    assert [entry.label for entry in condition.entries] == ["bg", "nm"]
    assert [condition.entries[i].label for i in condition.entry] == [c[:2] for c in table.conditions.tolist()]
    assert [view.entries[i].label for i in view.entry] == table.views.tolist()
    assert [kind_of_condition(name) for name in ("nm-01", "01", "bag_2", "cl")] == ["nm", "01", "bag", "cl"]


def test_sections_with_hostile_names_and_two_runs():
    table = make_table(noise=1.5, subjects=["001", HOSTILE, "<i>003"])
    source = make_source(table)
    runs = [make_run(table, PROTOCOL, source, name) for name in ("a", "<b>b")]
    context = Context(runs)
    drawn, wrong, alike = people_map(context), mistakes(context), matrices(context)
    text = "".join(
        str(b.body) + str(b.title) + str(b.alt)
        for s in (drawn, wrong, alike)
        for b in s.blocks
        if isinstance(b, Figure)
    )
    assert "<b>" not in text
    assert "<i>" not in text
    assert "style=" not in text
    assert re.findall(r"\son\w+=", text) == []
    figures = [block for block in drawn.blocks if isinstance(block, Figure)]
    for figure in figures:
        data = json.loads(re.search(r'class="map-data">(.*?)</script>', figure.body, re.S).group(1))
        assert data["labels"] == [list(labels) for labels in zip(*(c.tolist() for c in table[1:]), strict=True)]
        assert figure.body.count("<use href") == len(table.subjects) + sum(
            len(legend.entries) for legend in make_legends(table)
        )
    strips = json.loads(re.search(r'id="strips">(.*?)</script>', figures[-1].body, re.S).group(1))
    numbers = [point[0] for point in data["points"]]
    assert sorted(set(numbers)) == list(range(len(strips))) == list(range(len(table.subjects)))
    cases = [b for b in wrong.blocks if isinstance(b, Figure)]
    assert len(cases) == 4
    assert all(3 * case.body.count("<li>") == case.body.count("<img") for case in cases)
    numbers = next(block for block in alike.blocks if isinstance(block, Table))
    assert [row[1:3] for row in numbers.rows] == [[3, 6], [3, 6]]


def test_sections_without_data_with_one_person_and_with_nan():
    context = Context([make_run(make_table(people=1), PROTOCOL)])
    drawn, wrong, alike = people_map(context), mistakes(context), matrices(context)
    notes = [
        str(block.text) for section in (drawn, wrong, alike) for block in section.blocks if isinstance(block, Note)
    ]
    assert any("No walkers are shown. <bdi>run</bdi> does not say where its data are" in note for note in notes)
    assert any("no probe has both" in note for note in notes)
    assert any(isinstance(block, Figure) and "<img" not in block.body for block in drawn.blocks)
    assert any(isinstance(block, Figure) for block in alike.blocks)

    table = make_table()
    table.embeddings[:2] = np.nan  # 000/nm-01 in both views
    context = Context([make_run(table, PROTOCOL)])
    drawn, wrong = people_map(context), mistakes(context)
    assert any("2 of 24 sequences have no finite" in str(b.text) for b in drawn.blocks if isinstance(b, Note))
    assert "000/nm-01/000" in str(wrong.blocks[0].text)
    assert "left out" in str(matrices(context).blocks[-1].text)
    table.embeddings[:] = np.inf
    assert "there is nothing to draw" in str(people_map(context).blocks[0].text)
    assert "there is nothing to compare" in str(matrices(context).blocks[0].text)


def test_names_where_no_markup_can_stand():
    assert plain("\x00a\u202eb") == "\u2068\\x00a\u202eb\u2069"
    assert plain("long name", 5) == "\u2068long…\u2069"
