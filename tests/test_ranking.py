"""Ranking against golden numbers and plain loops: ranks, rates, re-ranking, intervals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gil_jax.data.lookups import names_of
from gil_jax.data.protocols import CASIA_B, OUMVLP, PROTOCOLS, Protocol
from gil_jax.evaluation import distances as distances_module
from gil_jax.evaluation import measures
from gil_jax.evaluation.distances import GalleryDistances, part_distances
from gil_jax.evaluation.measures import bootstrap, cells, cmc, headline, is_square, summarize
from gil_jax.evaluation.ranking import BITS, rank
from gil_jax.evaluation.reranking import rerank
from gil_jax.evaluation.verification import open_set, threshold_at, verification
from gil_jax.types import EmbeddingTable, RowsOf

GOLDEN = np.load(Path(__file__).parent / "golden" / "evaluation.npz")
WILD = np.load(Path(__file__).parent / "golden" / "wild_evaluation.npz")
SETS = {"casiab": CASIA_B, "oumvlp": OUMVLP}
METRICS = {"euclidean": "euc", "cosine": "cos"}


def _golden_table(golden, name, condition="type"):
    return EmbeddingTable(*(golden[f"{name}/{key}"] for key in ("embeddings", "subject", condition, "view")))


def _quoted(ranking, measure, counts="all"):
    return headline(summarize(cells(ranking, measure, counts), is_square(ranking)))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("metric", METRICS)
def test_golden_rank1_and_distances(name, metric):
    table = _golden_table(GOLDEN, name, "condition")
    for probe_set, ranking in rank(table, SETS[name], metric).items():
        golden = float(GOLDEN[f"{name}/{METRICS[metric]}/rank1_excluding_identical_view/{probe_set}"])
        assert _quoted(ranking, "rank1") == pytest.approx(golden, abs=1e-9)
    ours = part_distances(table.embeddings[:7], table.embeddings[7:19], metric)
    np.testing.assert_allclose(ours, GOLDEN[f"{name}/{METRICS[metric]}/distance_7x12"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_golden_gait3d(metric):
    table = _golden_table(WILD, "gait3d")
    probes = names_of(table, np.flatnonzero(WILD["gait3d/probe"]))
    protocol = replace(PROTOCOLS["gait3d"], probes={"probes": tuple(name.replace("/", "-") for name in probes)})
    ranking = rank(table, protocol, metric)["probes"]
    for theirs, ours in (
        ("Rank-1", "rank1"),
        ("Rank-5", "rank5"),
        ("Rank-10", "rank10"),
        ("mAP", "mAP"),
        ("mINP", "mINP"),
    ):
        golden = float(WILD[f"gait3d/{METRICS[metric]}/{theirs}"])
        assert _quoted(ranking, ours, protocol.counts) == pytest.approx(golden, abs=0.0051)


@pytest.mark.parametrize("metric", METRICS)
def test_golden_ccpg_in_both_readings(metric):
    table, prefix = _golden_table(WILD, "ccpg"), f"ccpg/{METRICS[metric]}"
    gait = rank(table, PROTOCOLS["ccpg"], metric)
    reid = rank(table, PROTOCOLS["ccpg_reid"], metric)
    for i, name in enumerate(("CL", "UP", "DN", "BG")):
        summary = summarize(cells(gait[name], "rank1"), is_square(gait[name]))
        golden = [WILD[f"{prefix}/{key}"][i] for key in ("gait_rank1", "gait_rank1_with_same_view")]
        ours = [summary["excluding_identical_view"], summary["including_identical_view"]]
        np.testing.assert_allclose(ours, golden, atol=0.00051)
        golden = [WILD[f"{prefix}/reid_{key}"][i] for key in ("rank1", "map", "minp")]
        ours = [_quoted(reid[name], measure, "with_gallery") for measure in ("rank1", "mAP", "mINP")]
        np.testing.assert_allclose(ours, golden, atol=0.0056)


@pytest.mark.parametrize("metric", METRICS)
def test_golden_sustech1k_of_nine_conditions(metric):
    found = rank(_golden_table(WILD, "sustech1k"), PROTOCOLS["sustech1k"], metric)
    assert len(found) == 9
    for name, ranking in found.items():
        for k in range(1, 6):
            golden = float(WILD[f"sustech1k/{METRICS[metric]}/{name.replace('Umbrella', 'Umberalla')}@R{k}"])
            assert _quoted(ranking, f"rank{k}") == pytest.approx(golden, abs=0.0051), (name, k)


def test_golden_grew_and_cross_view():
    ranking = rank(_golden_table(WILD, "grew"), PROTOCOLS["grew"])["local"]
    assert [_quoted(ranking, f"rank{k}") for k in (1, 5, 10, 20)] == WILD["grew/euc/rank_1_5_10_20"].tolist()
    for name, ranking in rank(_golden_table(WILD, "cross_view"), PROTOCOLS["casia_b_cross_view"]).items():
        assert _quoted(ranking, "rank1") == pytest.approx(float(WILD[f"cross_view/euc/{name}-Rank@1"]))
        assert _quoted(ranking, "mAP") == pytest.approx(float(WILD[f"cross_view/euc/{name}-mAP"]))


class Given(GalleryDistances):
    """Distances that are given, whatever the embeddings."""

    matrix = WILD["ranks/distance"] - WILD["ranks/distance"].min()  # distances are not negative

    def rows(self, probes):
        columns = self.embeddings.rows - len(self.matrix)
        yield slice(0, len(probes)), self.matrix[:, columns].copy()


@pytest.mark.parametrize("reading", ["all", "other_camera", "cross_view"])
def test_golden_ranks_of_one_distance_matrix(reading, monkeypatch):
    monkeypatch.setattr("gil_jax.evaluation.ranking.GalleryDistances", Given)
    probes, gallery = (WILD[f"ranks/{side}_label"].astype(str) for side in ("probe", "gallery"))
    cameras = np.concatenate([WILD[f"ranks/{side}_camera"] for side in ("probe", "gallery")]).astype(str)
    subjects, conditions = np.concatenate([probes, gallery]), np.repeat(["p", "g"], [len(probes), len(gallery)])
    table = EmbeddingTable(np.zeros((len(subjects), 1, 1), np.float32), subjects, conditions, cameras)
    protocol = Protocol("ranks", ("g",), {"P": ("p",)}, compare="together", without_same_view=reading != "all")
    ranking, counts = rank(table, protocol)["P"], "all" if reading == "cross_view" else "with_gallery"
    assert _quoted(ranking, "mAP") == pytest.approx(100 * float(WILD[f"ranks/{reading}/map"]), abs=0.0051)
    if reading == "cross_view":
        for k in (1, 5):
            assert _quoted(ranking, f"rank{k}", counts) == pytest.approx(100 * float(WILD[f"ranks/{reading}/rank{k}"]))
        return
    assert _quoted(ranking, "mINP") == pytest.approx(100 * float(WILD[f"ranks/{reading}/minp"]), abs=0.0051)
    np.testing.assert_allclose(cmc(ranking, counts), 100 * WILD[f"ranks/{reading}/cmc"], atol=0.0051)
    if reading == "all":
        found = ranking.first[:, 0] > 0
        np.testing.assert_allclose(ranking.precision[found, 0], WILD["ranks/all/ap"], rtol=1e-6)
        np.testing.assert_allclose(ranking.penalty[found, 0], WILD["ranks/all/inp"], rtol=1e-6)


@pytest.mark.parametrize("case", range(4))
def test_golden_reranking(case):
    queries, k1, k2 = (int(WILD[f"rerank/{case}/{key}"]) for key in ("queries", "k1", "k2"))
    ours = rerank(WILD[f"rerank/{case}/distance"], queries, k1, k2, float(WILD[f"rerank/{case}/lambda"]))
    # The original keeps its weights in float16.
    np.testing.assert_allclose(ours, WILD[f"rerank/{case}/final"], atol=3e-3)


def test_reranking_in_a_protocol_changes_the_order_and_keeps_the_exclusions():
    table = _golden_table(WILD, "grew")
    plain, again = (rank(table, PROTOCOLS["grew"], rerank=r)["local"] for r in (None, (6, 6, 0.3)))
    assert (plain.first != again.first).any()
    unchanged = rank(table, PROTOCOLS["grew"], rerank=(6, 6, 1.0))["local"]
    assert (unchanged.first > 0).all()
    with pytest.raises(ValueError, match=r"config\.eval\.rerank=\(0, 6, 0\.3\)"):
        rank(table, PROTOCOLS["grew"], rerank=(0, 6, 0.3))


def test_distances_far_from_the_origin_keep_their_digits():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 3, 8)).astype(np.float32)
    exact = np.linalg.norm(x[:, None].astype(float) - y[None].astype(float), axis=-1).mean(-1)
    shifted = part_distances(x + np.float32(256), y + np.float32(256))
    np.testing.assert_allclose(shifted, exact, rtol=1e-3)


@pytest.mark.parametrize("kept", [0, 1 << 30])
def test_blocks_streams_and_half_precision_change_nothing(kept, monkeypatch, tmp_path):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(13, 3, 4)).astype(np.float32), rng.normal(size=(21, 3, 4)).astype(np.float32)
    whole = part_distances(x, y)
    monkeypatch.setattr(distances_module, "BLOCK", 5)
    monkeypatch.setattr(distances_module, "KEPT_BYTES", kept)
    monkeypatch.setattr(distances_module, "ROWS_BYTES", 4 * len(y) * 3)
    np.save(tmp_path / "gallery.npy", y)
    mapped = RowsOf(np.load(tmp_path / "gallery.npy", mmap_mode="r"), np.arange(len(y)))
    gallery = GalleryDistances(mapped)
    blocks = list(gallery.rows(x))
    assert [block.stop - block.start for block, _ in blocks] == [3, 3, 3, 3, 1]
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), whole, rtol=1e-5, atol=1e-6)
    found, nearest = gallery.nearest(x, 4)
    np.testing.assert_array_equal(found, np.argsort(whole, axis=1, kind="stable")[:, :4])
    np.testing.assert_allclose(nearest, np.sort(whole, axis=1)[:, :4], rtol=1e-5, atol=1e-6)
    half = part_distances(x.astype(np.float16), y.astype(np.float16))
    np.testing.assert_allclose(half, whole, atol=5e-3)


def _random_table(seed, n=60):
    rng = np.random.default_rng(seed)
    return EmbeddingTable(
        rng.normal(size=(n, 3, 2)).astype(np.float32),
        rng.choice(["a", "b", "c", "d", "e"], n),
        rng.choice(["g", "p", "q", "x"], n, p=[0.5, 0.2, 0.2, 0.1]),
        rng.choice(["000", "090", "180"], n),
    )


TOY = Protocol("toy", ("g",), {"P": ("p",), "PQ": ("p", "q")})
READINGS = {
    "apart": TOY,
    "cross view": replace(TOY, compare="gallery_together", without_same_view=True),
    "together": replace(TOY, compare="together", counts="with_gallery"),
    "leave one out": replace(TOY, gallery=("g", "p"), compare="together", leave_one_out=True),
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("seed", range(3))
def test_every_measure_against_plain_loops(reading, seed, monkeypatch):
    monkeypatch.setattr(distances_module, "ROWS_BYTES", 4 * 30 * 7)
    table, protocol = _random_table(seed), READINGS[reading]
    for name, ranking in rank(table, protocol).items():
        members = protocol.probes[name]
        for i, probe_view in enumerate(ranking.views):
            for j, gallery_view in enumerate(ranking.galleries):
                expected = _by_hand(table, protocol, members, probe_view, gallery_view)
                ours = {m: cells(ranking, m, protocol.counts)[i, j] for m in expected}
                assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True), (name, probe_view, gallery_view)
        own, other, genuine, impostor = _pairs_by_hand(table, protocol, members)
        np.testing.assert_allclose(ranking.own, own, rtol=1e-4)
        np.testing.assert_allclose(ranking.other, other, rtol=1e-4)
        assert ranking.genuine.sum() == len(genuine)
        assert ranking.impostor.sum() == len(impostor)
        _check_verification(verification(ranking.genuine, ranking.impostor), genuine, impostor)
        _check_open_set(open_set(ranking), ranking.own, ranking.other)


def _distance(table, i, j):
    return np.mean([np.linalg.norm(table.embeddings[i, p] - table.embeddings[j, p]) for p in range(3)])


def _compared(table, protocol, probe, row):
    same = table.subjects[probe] == table.subjects[row] and table.views[probe] == table.views[row]
    return not (protocol.leave_one_out and probe == row) and not (protocol.without_same_view and same)


def _by_hand(table, protocol, members, probe_view, gallery_view):
    rows = range(len(table.subjects))
    gallery = [r for r in rows if table.conditions[r] in protocol.gallery and gallery_view in ("all", table.views[r])]
    values = {m: [] for m in measures.MEASURES}
    for probe in rows:
        if table.conditions[probe] not in members or probe_view not in ("all", table.views[probe]):
            continue
        there = [g for g in gallery if _compared(table, protocol, probe, g)]
        right = [
            table.subjects[g] == table.subjects[probe] for g in sorted(there, key=lambda g: _distance(table, probe, g))
        ]
        places = [k for k, r in enumerate(right, start=1) if r]
        for k in (1, 5, 10, 20):
            if places or protocol.counts == "all":
                values[f"rank{k}"].append(any(right[:k]))
        values["rank1_all"].append(any(right[:1]))
        if places:
            values["rank1_with_gallery"].append(right[0])
            values["mAP"].append(np.mean([n / k for n, k in enumerate(places, start=1)]))
            values["mINP"].append(len(places) / places[-1])
    return {name: np.around(100 * np.sum(v) / len(v), 2) if v else np.nan for name, v in values.items()}


def _pairs_by_hand(table, protocol, members):
    """Distances of all pairs of other views, or of all where views are together."""
    rows = range(len(table.subjects))
    own, other, genuine, impostor = [], [], [], []
    for probe in rows:
        if table.conditions[probe] not in members:
            continue
        sides = ([], [])
        for g in rows:
            apart = protocol.compare == "apart" and table.views[g] == table.views[probe]
            if table.conditions[g] in protocol.gallery and not apart and _compared(table, protocol, probe, g):
                sides[table.subjects[g] != table.subjects[probe]].append(_distance(table, probe, g))
        own.append(min(sides[0], default=np.inf))
        other.append(min(sides[1], default=np.inf))
        genuine += sides[0]
        impostor += sides[1]
    return own, other, np.array(genuine), np.array(impostor)


def _check_verification(report, genuine, impostor):
    """Rates at a threshold are those of its pairs; thresholds are as coarse as the bins."""
    for rate, limit in report["threshold"].items():
        if len(impostor) * float(rate) < 1:
            assert limit is None
            continue
        assert np.mean(impostor <= limit) <= float(rate) + 1e-9
        assert report["tar"][rate] == pytest.approx(100 * np.mean(genuine <= limit))
        # The next bin would be one too many.
        every = np.concatenate([genuine, impostor])
        beyond = every[every > limit].min() * (1 + 2.0 ** (BITS - 22))
        assert np.mean(impostor <= beyond) > float(rate)
    far, frr = np.mean(impostor <= report["eer_threshold"]), np.mean(genuine > report["eer_threshold"])
    assert report["eer"] == pytest.approx(50 * (far + frr))
    thresholds = np.concatenate([genuine, impostor])
    gaps = [abs(np.mean(impostor <= t) - np.mean(genuine > t)) for t in thresholds]
    assert abs(far - frr) <= min(gaps) + 0.05
    assert report["roc"] == sorted(report["roc"])


def _check_open_set(report, own, other):
    enrolled = np.isfinite(own) & np.isfinite(other)
    strangers = other[~np.isfinite(own)] if (~np.isfinite(own)).any() else other[enrolled]
    assert report["simulated"] == np.isfinite(own).all()
    for rate, limit in report["threshold"].items():
        if limit is None:
            assert len(strangers) * float(rate) < 1
            continue
        assert np.mean(strangers <= limit) <= float(rate)
        found = np.mean((own[enrolled] < other[enrolled]) & (own[enrolled] <= limit))
        assert report["dir"][rate] == pytest.approx(100 * found)


def test_a_threshold_accepts_no_more_strangers_than_asked():
    strangers = np.array([1, 1, 2, 3, 4, 5, 6, 7, 8, 9], np.float32)
    assert threshold_at(strangers, 0.05) is None
    assert threshold_at(strangers, 0.1) < 1  # the two at 1 are equal, so that neither is accepted
    assert 2 < threshold_at(strangers, 0.3) < 3
    assert threshold_at(strangers, 1.0) == 9


def test_of_equal_distances_the_wrong_person_comes_first():
    table = _random_table(0)
    alike = table._replace(embeddings=np.ones_like(table.embeddings))
    ranking = rank(alike, READINGS["together"])["P"]
    wrong = np.array([np.sum((table.conditions == "g") & (table.subjects != s)) for s in ranking.people])
    np.testing.assert_array_equal(ranking.first[:, 0], wrong + 1)


def test_cells_are_rounded_as_the_reference_does():
    # 100 * 1 / 160 = 0.625 and 100 * 0.00625 = 0.625 differ in their last bit
    table = _random_table(0, n=160)._replace(conditions=np.repeat(["g", "p"], [10, 160]))
    table = EmbeddingTable(*(np.concatenate([x[:10], x]) for x in table[:2]), table.conditions, np.full(170, "000"))
    ranking = rank(table, READINGS["together"])["P"]
    for hits in range(160):
        ranking.first[:, 0] = np.where(np.arange(160) < hits, 1, 2)
        assert cells(ranking, "rank1")[0, 0] == np.around(100 * hits / 160, 2)


def test_missing_cells_stay_out_of_the_means():
    matrix = np.array([[90.0, 50.0, np.nan], [70.0, 80.0, 30.0], [np.nan, np.nan, np.nan]])
    summary = summarize(matrix, square=True)
    assert summary["matrix"][0] == [90.0, 50.0, None]
    assert summary["by_probe_view"] == [50.0, 50.0, None]
    assert summary["excluding_identical_view"] == 50.0
    assert summary["including_identical_view"] == 64.0
    one = summarize(np.array([[75.0]]), square=True)
    assert (one["excluding_identical_view"], headline(one)) == (None, 75.0)


def test_the_bootstrap_draws_people_and_pairs_runs():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 8).astype(str)
    centres = rng.normal(size=(40, 1, 3)).repeat(8, axis=0)
    conditions = np.tile(list("ggggpppp"), 40)
    tables = [
        EmbeddingTable(
            (centres + noise * rng.normal(size=centres.shape)).astype(np.float32), people, conditions, people
        )
        for noise in (0.25, 0.35)
    ]
    rankings = [rank(table, READINGS["together"])["P"] for table in tables]
    draws = bootstrap(rankings, "all", 2000)
    for ranking, line in zip(rankings, draws, strict=True):
        hits = (ranking.first[:, 0] == 1).reshape(40, 4).mean(axis=1)
        assert line.mean() == pytest.approx(_quoted(ranking, "rank1"), abs=0.5)
        assert line.std() == pytest.approx(100 * hits.std() / np.sqrt(40), rel=0.1)
    low, high = measures.interval(draws[0] - draws[1])
    unpaired = np.hypot(*draws.std(axis=1))
    assert low < _quoted(rankings[0], "rank1") - _quoted(rankings[1], "rank1") < high
    assert (draws[0] - draws[1]).std() < unpaired
    square = rank(_golden_table(GOLDEN, "oumvlp", "condition"), OUMVLP)["NM"]
    assert np.nanmean(bootstrap([square], "all", 500)) == pytest.approx(_quoted(square, "rank1"), abs=1.0)
    with pytest.raises(ValueError, match="other probes"):
        bootstrap([rankings[0], square], "all", 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e25])
def test_embeddings_that_are_not_finite_are_named(value):
    table = _random_table(0)
    table.embeddings[17, 1, 1] = value
    name = f"{table.subjects[17]}/{table.conditions[17]}/{table.views[17]}"
    with pytest.raises(ValueError, match=f"1 of 60 embeddings are not finite.*{name}"):
        rank(table, TOY)


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"config\.eval\.metric='l2'"):
        rank(_random_table(0), TOY, "l2")
