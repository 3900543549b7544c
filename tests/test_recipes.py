"""The comparison of the recipes: its small rows, runs that are kept and not repeated, and the table."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import recipes
from benchmarks.recipes import HalfHeight, Run, print_table, small_row, train_missing
from gil_jax.data.dataset import open_dataset
from gil_jax.train_step import make_train_step

pytestmark = pytest.mark.slow

TINY = {"gaitset": {"model": {"channels": (2, 4, 4), "features": 8, "bins": (2, 1)}, "frames": 4}}


def test_a_row_is_made_small_and_changed_by_name():
    config = small_row("gaitgl", "l_s:loss.simce.weight=0.125,optim.warmup_steps=30", 400)
    assert config.loss.simce.weight == 0.125
    assert config.optim.warmup_steps == 30
    assert small_row("gaitgl", "l_m", 400).optim.warmup_steps == 10  # 2,000 of 80,000
    assert not small_row("gaitgl", "l_m", 400).data.augment
    assert small_row("baseline", "triplet_ce", 600).optim.decay_steps == (200, 400)
    for network in recipes.NETWORKS:
        weights = {small_row(network, recipe, 9).loss.cross_entropy.weight for recipe in ("triplet_ce", "l_s")}
        assert weights == {1.0}
    with pytest.raises(KeyError, match="simcee"):
        small_row("gaitgl", "l_s:loss.simcee.weight=0.125", 400)


def test_runs_are_kept_resumed_and_compared(tiny_config, tmp_path, monkeypatch, capsys):
    dataset = open_dataset(tiny_config)
    small = replace(dataset, source=HalfHeight(dataset.source))
    assert small.source[0].shape[1:] == (32, 32)
    whole = dataset.source[0][0].astype(float).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(small.source[0][0], whole, atol=0.5)

    monkeypatch.setattr(recipes, "ROWS", TINY)
    monkeypatch.setattr(recipes, "PEOPLE", 4)
    monkeypatch.setattr(recipes, "SEQUENCES", 2)
    seeds = []
    monkeypatch.setattr(
        recipes,
        "make_train_step",
        lambda *given, **named: (seeds.append(given[-1]), make_train_step(*given, **named))[1],
    )
    runs = [Run("gaitset", "triplet", seed) for seed in (0, 1)]
    train_missing(runs, tmp_path, lambda: small, 3)
    assert len(seeds) == 1  # traced once for both seeds
    kept = [json.loads(run.path(tmp_path).read_text()) for run in runs]
    assert [line["step"] for line in kept[0]["history"]] == [1, 3]
    assert kept[0]["history"] != kept[1]["history"]
    with np.load(runs[0].path(tmp_path).with_suffix(".npz")) as arrays:
        matrices = arrays["similarity"]
        assert len(arrays["embeddings"]) == len(arrays["subjects"])
    assert matrices.shape == (3, 8, 8)
    np.testing.assert_allclose(matrices.diagonal(axis1=1, axis2=2), 1, atol=1e-5)

    train_missing(runs, tmp_path, lambda: pytest.fail("nothing is missing"), 3)
    with pytest.raises(ValueError, match="trained with other settings"):
        train_missing(runs, tmp_path, lambda: small, 4)
    capsys.readouterr()
    rates = {("triplet_ce", 0): 50, ("triplet_ce", 1): 54, ("l_s", 0): 53, ("l_s", 1): 55}
    for (recipe, seed), rate in rates.items():
        path = Run("gaitset", recipe, seed).path(tmp_path)
        path.write_text(json.dumps({"rank1": {"NM": rate, "BG": rate + 1, "CL": 10}}))
    print_table(["gaitset"], ["triplet_ce", "l_s"], [0, 1, 2], tmp_path)
    row = capsys.readouterr().out.splitlines()[-1]
    rates, differences = "54.00 ± 1.41 | 55.00 ± 1.41 | 10.00 ± 0.00", "+2.00 ± 1.41 | +2.00 ± 1.41 | +0.00 ± 0.00"
    assert row == f"| gaitset | `l_s` | 2 | {rates} | {differences} |"
