"""make_loss: the weighted sum, its schedule and filter, what it logs, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.loss_recipes import RECIPES, loss_recipe
from gil_jax.losses import class_uniformity, cross_entropy, make_loss, pair_softplus, weighted_triplet
from gil_jax.types import ModelOutput

LABELS = np.repeat(np.arange(4), 3).astype(np.int32)


@pytest.fixture(scope="module")
def output():
    rng = np.random.default_rng(0)
    embeddings, logits = rng.normal(size=(12, 5, 6)) * 0.4, rng.normal(size=(12, 5, 4))
    return ModelOutput(jnp.asarray(embeddings, jnp.float32), jnp.asarray(logits, jnp.float32))


def run(config, output, step=0, key=0):
    return jax.jit(make_loss(config))(output, LABELS, jnp.int32(step), jax.random.key(key))


@pytest.fixture(scope="module")
def terms(output):
    """The value of every term of the recipes, from the functions behind them; "filtered": by picked part."""
    embeddings = output.embeddings
    values = {
        "plain": weighted_triplet(embeddings, LABELS, weighted=False)[0],
        "weighted": weighted_triplet(embeddings, LABELS)[0],
        "distance": pair_softplus(embeddings, LABELS, temperature=0.2, similarity="distance")[0],
        "dot": pair_softplus(embeddings, LABELS)[0],
        "uniformity": class_uniformity(embeddings, LABELS)[0],
        "cross_entropy": cross_entropy(output.logits, LABELS, 1.0, 0.1),
    }
    filtered = jax.jit(lambda part: jnp.mean(pair_softplus(embeddings, LABELS, picked=part)[0]))
    return {name: float(jnp.mean(value)) for name, value in values.items()} | {
        "filtered": np.array([filtered(jnp.int32(part)) for part in range(5)])
    }


def test_recipes_are_the_sums_they_say(output, terms):
    v = terms
    sums = {
        "triplet": v["plain"],
        "l_m": v["weighted"],
        "l_s": v["distance"],
        "gil": v["weighted"] + v["distance"] + 0.1 * v["uniformity"],
        "as_released": v["weighted"] + v["dot"] + v["cross_entropy"],
    }
    assert set(sums) == set(RECIPES)
    for name, expected in sums.items():
        assert float(run(loss_recipe(name), output)[0]) == pytest.approx(expected, rel=1e-5), name


def test_a_schedule_changes_a_weight_at_its_steps(output, terms):
    config = loss_recipe("gil")
    config.triplet.schedule = ((10, 0.5), (20, 0.0))
    config.pair_softplus.weight = 0.0
    config.pair_softplus.schedule = ((20, 2.0),)
    v, loss_fn = terms, jax.jit(make_loss(config))
    for step, triplet, softplus in ((0, 1.0, 0.0), (9, 1.0, 0.0), (10, 0.5, 0.0), (19, 0.5, 0.0), (20, 0.0, 2.0)):
        loss, metrics = loss_fn(output, LABELS, jnp.int32(step), jax.random.key(0))
        expected = triplet * v["weighted"] + softplus * v["distance"] + 0.1 * v["uniformity"]
        assert float(loss) == pytest.approx(expected, rel=1e-5), step
        assert float(metrics["triplet"]) == pytest.approx(v["weighted"], rel=1e-5)


def test_the_filter_comes_on_at_its_step_and_draws_a_part_from_the_key(output, terms):
    config = {"pair_softplus": {"similarity": "dot", "temperature": 0.1, "filter_from_step": 7}}
    loss_fn = jax.jit(make_loss(config))
    losses = np.array([loss_fn(output, LABELS, jnp.int32(7), jax.random.key(key))[0] for key in range(30)])
    drawn = np.argmin(np.abs(terms["filtered"] - losses[:, None]), 1)
    assert set(drawn) == set(range(5))
    np.testing.assert_allclose(losses, terms["filtered"][drawn], rtol=1e-5)
    before = loss_fn(output, LABELS, jnp.int32(6), jax.random.key(0))[0]
    assert float(before) == pytest.approx(terms["dot"], rel=1e-5)


def test_metrics_say_what_the_features_look_like(output):
    _, metrics = run(loss_recipe("gil"), output)
    x = np.asarray(output.embeddings, np.float64)
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    distance, apart = (np.linalg.norm(y[:, None] - y[None], axis=-1) for y in (x, unit))
    same, other = LABELS[:, None] == LABELS, ~np.eye(12, dtype=bool)
    expected = {
        "positive_distance": distance[same & other].mean(),
        "negative_distance": distance[~same].mean(),
        "alignment": (apart[same & other] ** 2).mean(),
        "uniformity": np.log(np.exp(-2 * apart[other] ** 2).mean(0)).mean(),
    }
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    distance = np.moveaxis(distance, 2, 0)
    wrong = distance[:, :, None, :] < distance[:, :, :, None]  # part, anchor, positive, negative
    triplets = same[:, :, None] & ~same[:, None, :]
    assert float(metrics["pair_softplus/wrong_share"]) == pytest.approx(wrong[:, triplets].mean(), rel=1e-4)
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def test_a_collapse_is_told(output):
    embeddings = output.embeddings
    cases = {"spread": embeddings, "collapsed": 3.0 + 1e-4 * embeddings, "zero": 0 * embeddings}
    told = {
        name: float(run(loss_recipe("l_m"), ModelOutput(case))[1]["triplet/collapsed"]) for name, case in cases.items()
    }
    assert told == {"spread": 0.0, "collapsed": 1.0, "zero": 1.0}


def test_no_gradient_flows_through_the_metrics(output):
    loss_fn = make_loss(loss_recipe("gil"))

    def metric(embeddings):
        metrics = loss_fn(ModelOutput(embeddings), LABELS, jnp.int32(0), jax.random.key(0))[1]
        return sum(metrics.values())

    np.testing.assert_array_equal(jax.jit(jax.grad(metric))(output.embeddings), 0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"triplette": {}}, "config.loss.triplette.*triplet, pair_softplus"),
        ({"triplet": {"marign": 0.2}}, "config.loss.triplet.marign.*margin"),
        ({"pair_softplus": {"similarity": "cos"}}, "similarity='cos'.*dot, cosine, distance"),
        ({"pair_softplus": {"temperature": 0.0}}, "temperature=0.0"),
        ({"triplet": {"weight": 0.0}}, "no term has a weight"),
        ({}, "no term has a weight"),
    ],
)
def test_a_config_that_means_nothing_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        make_loss(config)


def test_cross_entropy_needs_logits(output):
    with pytest.raises(ValueError, match=r"config\.loss\.cross_entropy\.weight=0"):
        run(loss_recipe("as_released"), ModelOutput(output.embeddings))
    config = loss_recipe("as_released")
    config.cross_entropy.weight = 0.0
    assert np.isfinite(run(config, ModelOutput(output.embeddings))[0])


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="triplet, l_m, l_s, gil, as_released"):
        loss_recipe("gli")
