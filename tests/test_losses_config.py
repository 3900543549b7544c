"""make_loss: the weighted sum, its schedule and filter, what it logs, and what it refuses."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import casia_b_gaitgl
from configs.loss_recipes import RECIPES, loss_recipe
from gil_jax.losses import SimCE, cross_entropy, m_simce, make_loss, s_triplet, simce
from gil_jax.losses.parts import over_parts
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
    embeddings, labels, filtered = output.embeddings, jnp.asarray(LABELS), SimCE()
    values = {
        "triplet": s_triplet(embeddings, labels, weights="none")[0],
        "s_triplet": s_triplet(embeddings, labels)[0],
        "simce": simce(embeddings, labels)[0],
        "m_simce": m_simce(embeddings, labels)[0],
        "distance": simce(embeddings, labels, temperature=0.2, similarity="distance")[0],
        "ce": cross_entropy(output.logits, labels),
        "smoothed": cross_entropy(output.logits, labels, smoothing=0.1),
    }

    def by(part):
        extra = filtered.gate(embeddings, labels, part), jnp.float32(0.5)
        return jnp.mean(over_parts(filtered.value, embeddings, labels, extra)[0])

    by = jax.jit(by)
    return {name: float(jnp.mean(value)) for name, value in values.items()} | {
        "filtered": np.array([by(jnp.int32(part)) for part in range(5)])
    }


def test_recipes_are_the_sums_they_say(output, terms):
    v = terms
    sums = {
        "triplet": v["triplet"],
        "triplet_ce": v["triplet"] + v["ce"],
        "s_triplet": v["s_triplet"] + v["ce"],
        "l_s": v["s_triplet"] + v["ce"] + v["simce"],
        "l_m": v["s_triplet"] + v["ce"] + v["m_simce"],
        "l_s_distance": v["s_triplet"] + v["ce"] + v["distance"],
        "as_released": v["s_triplet"] + v["smoothed"] + v["simce"],
        "gil": v["s_triplet"] + v["ce"] + v["simce"],
    }
    assert set(sums) == set(RECIPES)
    for name, expected in sums.items():
        assert float(run(loss_recipe(name), output)[0]) == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize(("recipe", "third"), [("l_s", "simce"), ("l_m", "m_simce")])
def test_the_totals_of_the_paper_are_the_sums_of_its_terms(recipe, third):
    """Eq. 11 with the row's own config, against the equations in float64 and the released cross entropy."""
    loss_fn = jax.jit(make_loss(casia_b_gaitgl.get_config(recipe).loss))
    golden = Path(__file__).parent / "golden"
    with np.load(golden / "paper_losses.npz") as paper, np.load(golden / "losses.npz") as released:
        for case in ("balanced", "unbalanced", "large"):
            output = ModelOutput(released[f"{case}/embeddings"], released[f"{case}/logits"])
            loss, _ = loss_fn(output, released[f"{case}/labels"], jnp.int32(0), jax.random.key(0))
            expected = sum(np.mean(paper[f"{case}/{term}/loss"]) for term in ("s_triplet_released", third))
            assert float(loss) == pytest.approx(expected + np.mean(released[f"{case}/ce/loss"]), rel=1e-5), case


def test_a_schedule_changes_a_weight_at_its_steps(output, terms):
    config = loss_recipe("l_s")
    config.s_triplet.schedule = ((10, 0.5), (20, 0.0))
    config.simce.weight = 0.0
    config.simce.schedule = ((20, 2.0),)
    v, loss_fn = terms, jax.jit(make_loss(config))
    for step, triplet, softmax in ((0, 1.0, 0.0), (9, 1.0, 0.0), (10, 0.5, 0.0), (19, 0.5, 0.0), (20, 0.0, 2.0)):
        loss, metrics = loss_fn(output, LABELS, jnp.int32(step), jax.random.key(0))
        expected = triplet * v["s_triplet"] + softmax * v["simce"] + v["ce"]
        assert float(loss) == pytest.approx(expected, rel=1e-5), step
        assert float(metrics["s_triplet"]) == pytest.approx(v["s_triplet"], rel=1e-5)


def test_the_filter_comes_on_at_its_step_and_draws_a_part_from_the_key(output, terms):
    loss_fn = jax.jit(make_loss({"simce": {"filter_from_step": 7}}))
    losses = np.array([loss_fn(output, LABELS, jnp.int32(7), jax.random.key(key))[0] for key in range(30)])
    drawn = np.argmin(np.abs(terms["filtered"] - losses[:, None]), 1)
    assert set(drawn) == set(range(5))
    np.testing.assert_allclose(losses, terms["filtered"][drawn], rtol=1e-5)
    before = loss_fn(output, LABELS, jnp.int32(6), jax.random.key(0))[0]
    assert float(before) == pytest.approx(terms["simce"], rel=1e-5)
    with pytest.raises(ValueError, match="give it a key"):
        simce(output.embeddings, jnp.asarray(LABELS), filter_from_step=7)


def test_metrics_describe_the_features(output):
    config = loss_recipe("l_s_distance")
    config.m_simce = {}
    _, metrics = run(config, output)
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
    distance, products = np.moveaxis(distance, 2, 0), np.einsum("ipd,jpd->pij", x, x)
    wrong = distance[:, :, None, :] < distance[:, :, :, None]  # part, anchor, positive, negative
    triplets = same[:, :, None] & ~same[:, None, :]
    expected["simce/wrong_share"] = wrong[:, triplets].mean()
    wrong = products[:, :, None, :] > products[:, :, :, None]
    expected["m_simce/wrong_share"] = (wrong & triplets).any(3)[:, same].mean()
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value, rel=1e-4), name
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def test_a_collapse_is_logged(output):
    embeddings = output.embeddings
    cases = {"spread": embeddings, "collapsed": 3.0 + 1e-4 * embeddings, "zero": 0 * embeddings}
    found = {
        name: float(run({"s_triplet": {}}, ModelOutput(case))[1]["s_triplet/collapsed"]) for name, case in cases.items()
    }
    assert found == {"spread": 0.0, "collapsed": 1.0, "zero": 1.0}


def test_no_gradient_flows_through_the_metrics(output):
    config = loss_recipe("as_released")
    config.m_simce = {}
    loss_fn = make_loss(config)

    def metric(output):
        return sum(loss_fn(output, jnp.asarray(LABELS), jnp.int32(60_000), jax.random.key(0))[1].values())

    gradient = jax.jit(jax.grad(metric))(output)
    jax.tree.map(lambda x: np.testing.assert_array_equal(x, 0), gradient)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"s_triplette": {}}, "config.loss.s_triplette.*s_triplet, simce, m_simce, cross_entropy"),
        ({"s_triplet": {"marign": 0.2}}, "config.loss.s_triplet.marign.*margin"),
        ({"s_triplet": {"weights": "papre"}}, "config.loss.s_triplet.weights='papre'.*released, paper, none"),
        ({"simce": {"similarity": "cos"}}, "simce.similarity='cos'.*dot, cosine, distance"),
        ({"m_simce": {"similarity": "cos"}}, "m_simce.similarity='cos'.*dot, cosine, distance"),
        ({"simce": {"temperature": 0.0}}, "simce.temperature=0.0"),
        ({"m_simce": {"filter_from_step": 3}}, "m_simce.filter_from_step"),
        ({"s_triplet": {"weight": 0.0}}, "no term has a weight"),
        ({}, "no term has a weight"),
    ],
)
def test_a_config_that_means_nothing_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        make_loss(config)


def test_cross_entropy_needs_logits(output):
    with pytest.raises(ValueError, match=r"config\.model\.num_classes, or set config\.loss\.cross_entropy\.weight=0"):
        run(loss_recipe("l_s"), ModelOutput(output.embeddings))
    config = loss_recipe("l_s")
    config.cross_entropy.weight = 0.0
    assert np.isfinite(run(config, ModelOutput(output.embeddings))[0])
