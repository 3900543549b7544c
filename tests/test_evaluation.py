"""The report of a ranking, and the embeddings that it comes from."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base_config
from gil_jax.data.protocols import PROTOCOLS, Protocol
from gil_jax.data.source import SequenceTable
from gil_jax.evaluation.embedding import embed_split, energy_images
from gil_jax.evaluation.report import evaluate_table, format_report
from gil_jax.evaluation.submission import submission
from gil_jax.sharding import make_mesh
from gil_jax.types import EmbeddingTable


def _table(names, values):
    """One feature a sequence; names: subject/condition/view."""
    return EmbeddingTable(
        np.array(values, np.float32).reshape(-1, 1, 1), *map(np.array, zip(*(n.split("/") for n in names), strict=True))
    )


WILD = _table([f"{person}/{condition}/{person}{condition}" for person in "abcd" for condition in ("g", "p")], range(8))


def test_every_sequence_in_a_view_of_its_own_is_warned_of_and_together_is_right():
    apart = Protocol("wild", ("g",), {"P": ("p",)})
    table = WILD._replace(embeddings=np.repeat(np.arange(4, dtype=np.float32), 2).reshape(-1, 1, 1))
    report = evaluate_table(table, None, apart, "euclidean", samples=10)
    assert report["rank1"]["P"]["excluding_identical_view"] == 25.0
    assert "4 gallery views enrol fewer than the 4 people" in report["warnings"][0]
    together = Protocol("wild", ("g",), {"P": ("p",)}, compare="together")
    report = evaluate_table(table, None, together, "euclidean", samples=10)
    assert report["warnings"] == []
    assert report["rank1"]["P"]["including_identical_view"] == 100.0
    text = format_report({"dataset": "wild", "split": "s", "step": 1, **report}, 4)
    assert "one gallery of all views" in " ".join(text.split())
    assert "100.00" in text


def test_the_text_says_what_is_compared_and_counts_both_ways():
    names = ["a/g/000", "b/g/000", "b/p/000", "stranger/p/090", "d/g/090"]
    table = _table(names, [0.0, 1.0, 1.1, 5.0, 9.0])
    report = evaluate_table(table, table, Protocol("toy", ("g",), {"P": ("p",)}, compare="together"), "euclidean")
    assert report["compared"]["P"] == {
        "probes": 2,
        "probe_people": 2,
        "probe_conditions": ["p"],
        "gallery": 3,
        "gallery_people": 3,
        "gallery_conditions": ["g"],
        "without_gallery": 1,
        "distractors": 2,
        "unlabelled": 0,
    }
    report |= {"dataset": "toys", "split": "lt", "step": 7}
    json.dumps(report)
    text = format_report(report, subjects=3, expected={"P": 12.3})
    numbers = next(line for line in reversed(text.splitlines()) if line.startswith("P "))
    assert numbers.split()[:3] == ["P", "50.00", "100.00"]
    assert all(len(line) <= 120 for line in text.splitlines())
    text = " ".join(text.split())
    assert "1 probes have no gallery" in text
    assert "count as misses" in text
    assert "published" in text
    assert "12.3" in text
    assert "GEI" in text
    assert "toys" in text


def test_unlabelled_probes_make_a_submission_and_no_rate():
    names = ["00001/01/x", "00002/01/y", "00002/02/z", "00001/02/w", "probe/03/walk7", "probe/03/walk8"]
    table = _table(names, [0.0, 1.0, 1.4, 0.1, 1.3, 0.2])
    protocol = PROTOCOLS["grew"]
    report = evaluate_table(table, None, protocol, "euclidean", samples=10)
    assert list(report["rank1"]) == ["local"]
    assert report["compared"]["submission"]["unlabelled"] == 2
    header, *lines = submission(table, protocol).splitlines()
    assert header == "videoId," + ",".join(f"rank{i}" for i in range(1, 21))
    assert lines == ["walk7,2,2,1,1", "walk8,1,1,2,2"]
    assert submission(table._replace(subjects=np.array(list("abcdef"))), protocol) is None
    for rerank in (None, (2, 2, 0.3)):
        assert submission(table, PROTOCOLS["hid"], rerank=rerank) == "videoID,label\n03,00002\n03,00001\n"


def test_energy_images_are_means_of_the_real_frames():
    rng = np.random.default_rng(0)
    silhouettes = rng.integers(0, 256, (2, 5, 64, 44), np.uint8)
    frame_mask = np.arange(5) < np.array([[3], [5]])
    ours = energy_images(jnp.asarray(silhouettes), jnp.asarray(frame_mask))
    np.testing.assert_allclose(ours[0, 0], silhouettes[0, :3].mean(0).ravel() / 255, rtol=1e-5)
    np.testing.assert_allclose(ours[1, 0], silhouettes[1].mean(0).ravel() / 255, rtol=1e-5)


class Shades:
    """A source whose sequence i is of the shade i, with i + 1 frames."""

    height = 64
    table = SequenceTable(*(np.array([f"{what}{i}" for i in range(30)]) for what in "scv"), np.arange(1, 31))

    def __getitem__(self, row):
        return np.full((row + 1, 64, 64), row, np.uint8)


@pytest.mark.parametrize("limits", [
    {"frames_per_batch": 64},
    {"frames_per_batch": 16},  # longer sequences are alone, on every device
    {"frames_limit": 9},
])  # fmt: skip
def test_every_sequence_keeps_its_labels_and_its_place(limits, capsys):
    def embed(silhouettes, frame_mask):
        return energy_images(silhouettes, frame_mask)[:, :, :2]

    rows = np.array([3, 29, 7, 8, 11, 0, 24])
    config = base_config().eval
    config.update(limits)
    table = embed_split(embed, make_mesh(), Shades(), rows, config)
    said = "3 sequences are longer than config.eval.frames_limit=9" in capsys.readouterr().out
    assert said == ("frames_limit" in limits)
    np.testing.assert_allclose(table.embeddings[:, 0, 0] * 255, rows, rtol=1e-5)
    assert table.subjects.tolist() == [f"s{row}" for row in rows]
    assert table.views.tolist() == [f"v{row}" for row in rows]
