"""Ranking against the golden numbers and against plain loops, and what is reported of it."""

from pathlib import Path

import numpy as np
import pytest

from configs.base import base_config
from gil_jax.data.protocols import CASIA_B, OUMVLP, Protocol
from gil_jax.data.source import SequenceTable
from gil_jax.evaluation.embedding import embed_split, energy_images
from gil_jax.evaluation.ranking import part_distances, rank_matrix, summarize
from gil_jax.evaluation.report import evaluate_table, format_report
from gil_jax.sharding import make_mesh
from gil_jax.types import EmbeddingTable

GOLDEN = np.load(Path(__file__).parent / "golden" / "evaluation.npz")
SETS = {"casiab": CASIA_B, "oumvlp": OUMVLP}
METRICS = {"euclidean": "euc", "cosine": "cos"}


def _golden_table(name):
    return EmbeddingTable(*(GOLDEN[f"{name}/{key}"] for key in ("embeddings", "subject", "condition", "view")))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("metric", METRICS)
def test_golden_rank1(name, metric):
    views, cells = rank_matrix(_golden_table(name), SETS[name], metric)
    summary = summarize(views, cells["rank1"])
    for probe_set in SETS[name].probes:
        golden = float(GOLDEN[f"{name}/{METRICS[metric]}/rank1_excluding_identical_view/{probe_set}"])
        assert summary[probe_set]["excluding_identical_view"] == round(golden, 2)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("metric", METRICS)
def test_golden_distances(name, metric):
    embeddings = _golden_table(name).embeddings
    ours = part_distances(embeddings[:7], embeddings[7:19], metric)
    np.testing.assert_allclose(ours, GOLDEN[f"{name}/{METRICS[metric]}/distance_7x12"], rtol=1e-5, atol=1e-6)


def test_distances_far_from_the_origin_keep_their_digits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3, 8)).astype(np.float32)
    exact = np.linalg.norm(x[:, None].astype(float) - y[None].astype(float), axis=-1).mean(-1)
    shifted = part_distances(x + np.float32(256), y + np.float32(256))
    np.testing.assert_allclose(shifted, exact, rtol=1e-3)


def _random_table(seed, n=60):
    rng = np.random.default_rng(seed)
    return EmbeddingTable(
        rng.normal(size=(n, 3, 2)).astype(np.float32),
        rng.choice(["a", "b", "c"], n),
        rng.choice(["g", "p", "q", "x"], n, p=[0.5, 0.2, 0.2, 0.1]),
        rng.choice(["000", "090"], n),
    )


PROTOCOL = Protocol("toy", ("g",), {"P": ("p",), "PQ": ("p", "q")})


@pytest.mark.parametrize("seed", range(5))
def test_every_measure_against_plain_loops(seed):
    table = _random_table(seed)
    views, cells = rank_matrix(table, PROTOCOL, chunk=7)
    assert views == ["000", "090"]
    for name, members in PROTOCOL.probes.items():
        for i, probe_view in enumerate(views):
            for j, gallery_view in enumerate(views):
                expected = _by_hand(table, members, probe_view, gallery_view)
                ours = {measure: cells[measure][name][i, j] for measure in expected}
                np.testing.assert_allclose(list(ours.values()), list(expected.values()), atol=0.006, err_msg=name)


def _by_hand(table, members, probe_view, gallery_view):
    rows = range(len(table.subjects))
    gallery = [r for r in rows if table.conditions[r] == "g" and table.views[r] == gallery_view]
    values = {"rank1": [], "rank5": [], "rank1_with_gallery": [], "mAP": [], "mINP": []}
    for probe in rows:
        if table.conditions[probe] not in members or table.views[probe] != probe_view:
            continue
        distance = {
            g: np.mean([np.linalg.norm(table.embeddings[probe, p] - table.embeddings[g, p]) for p in range(3)])
            for g in gallery
        }
        right = [table.subjects[g] == table.subjects[probe] for g in sorted(gallery, key=distance.get)]
        values["rank1"].append(right[0])
        values["rank5"].append(any(right[:5]))
        places = [k for k, r in enumerate(right, start=1) if r]
        if places:
            values["rank1_with_gallery"].append(right[0])
            values["mAP"].append(np.mean([n / k for n, k in enumerate(places, start=1)]))
            values["mINP"].append(len(places) / places[-1])
    return {name: 100 * np.mean(v) if v else np.nan for name, v in values.items()}


def test_a_probe_without_gallery_is_a_miss_unless_left_out():
    table = EmbeddingTable(
        np.array([0.0, 1.0, 1.1, 5.0], np.float32)[:, None, None],
        np.array(["a", "b", "b", "stranger"]),
        np.array(["g", "g", "p", "p"]),
        np.array(["000"] * 4),
    )
    _, cells = rank_matrix(table, Protocol("toy", ("g",), {"P": ("p",)}))
    assert cells["rank1"]["P"].tolist() == [[50.0]]
    assert cells["rank1_with_gallery"]["P"].tolist() == [[100.0]]


def test_missing_cells_stay_out_of_the_means():
    matrix = np.array([[90.0, 50.0, np.nan], [70.0, 80.0, 30.0], [np.nan, np.nan, np.nan]])
    summary = summarize(["000", "090", "180"], {"NM": matrix})["NM"]
    assert summary["matrix"][0] == [90.0, 50.0, None]
    assert summary["by_probe_view"] == [50.0, 50.0, None]
    assert summary["excluding_identical_view"] == 50.0
    assert summary["including_identical_view"] == 64.0


def test_one_view_has_identical_views_only():
    summary = summarize(["090"], {"NM": np.array([[75.0]])})["NM"]
    assert summary["excluding_identical_view"] is None
    assert summary["including_identical_view"] == 75.0


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"config\.eval\.metric='l2'"):
        rank_matrix(_random_table(0), PROTOCOL, "l2")


def test_energy_images_are_means_of_the_real_frames():
    rng = np.random.default_rng(0)
    silhouettes = rng.integers(0, 256, (2, 5, 64, 44), np.uint8)
    frame_mask = np.arange(5) < np.array([[3], [5]])
    ours = energy_images(silhouettes, frame_mask)
    np.testing.assert_allclose(ours[0, 0], silhouettes[0, :3].mean(0).ravel() / 255, rtol=1e-5)
    np.testing.assert_allclose(ours[1, 0], silhouettes[1].mean(0).ravel() / 255, rtol=1e-5)


def test_the_printed_table_shows_network_baseline_and_published():
    table = _random_table(0)
    report = {"dataset": "toys", "split": "lt", "step": 7, **evaluate_table(table, table, PROTOCOL, "euclidean")}
    text = format_report(report, subjects=3, expected={"P": 12.3})
    rate = report["rank1"]["P"]["excluding_identical_view"]
    assert f"{rate:9.2f}" in text
    assert "published" in text
    assert "12.3" in text
    assert "GEI" in text
    assert "toys" in text


class Shades:
    """A source whose sequence i is of the shade i, with i + 1 frames."""

    height = 64
    table = SequenceTable(*(np.array([f"{what}{i}" for i in range(30)]) for what in "scv"), np.arange(1, 31))

    def __getitem__(self, row):
        return np.full((row + 1, 64, 64), row, np.uint8)


def test_every_sequence_keeps_its_labels_and_its_place():
    def embed(silhouettes, frame_mask):
        return energy_images(silhouettes, frame_mask)[:, :, :2]

    rows = np.array([3, 29, 7, 8, 11, 0, 24])
    config = base_config().eval
    config.frames_per_batch = 64
    table = embed_split(embed, make_mesh(), Shades(), rows, config)
    np.testing.assert_allclose(table.embeddings[:, 0, 0] * 255, rows, rtol=1e-5)
    assert table.subjects.tolist() == [f"s{row}" for row in rows]
    assert table.views.tolist() == [f"v{row}" for row in rows]
