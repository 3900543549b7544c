"""The losses against the reference's numbers, plain loops in float64, and hostile batches."""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gil_jax.losses import class_uniformity, cross_entropy, pair_softplus, weighted_triplet

CASES = ("balanced", "unbalanced", "duplicates", "large")


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "losses.npz") as file:
        return dict(file)


def relative_error(ours, theirs):
    return np.max(np.abs(np.asarray(ours) - theirs)) / max(np.max(np.abs(theirs)), 1e-12)


def value_and_slope(loss, embeddings, labels):
    """(loss [p], statistics, slope of the mean) as the training step would compile them."""

    def mean(embeddings):
        values, statistics = loss(embeddings, labels)
        return jnp.mean(values), (values, statistics)

    (_, (values, statistics)), slope = jax.jit(jax.value_and_grad(mean, has_aux=True))(jnp.asarray(embeddings))
    return values, statistics, slope


@pytest.mark.parametrize("case", CASES)
def test_weighted_triplet_is_the_references(golden, case):
    values, statistics, slope = value_and_slope(
        weighted_triplet, golden[f"{case}/embeddings"], golden[f"{case}/labels"]
    )
    theirs = {key: golden[f"{case}/weighted_triplet/{key}"] for key in ("loss", "grad", "hard_loss", "loss_num")}
    # The reference puts equal rows up to 1e-3 apart, by rounding; here they are at 0.
    rounding = 2e-4 if case == "duplicates" else 1e-5
    assert relative_error(values, theirs["loss"]) < rounding
    assert relative_error(statistics["hardest"], theirs["hard_loss"]) < rounding
    assert relative_error(statistics["mean_distance"], golden[f"{case}/weighted_triplet/mean_dist"]) < 1e-4
    np.testing.assert_array_equal(statistics["nonzero"], theirs["loss_num"])
    assert relative_error(slope, theirs["grad"]) < 2e-4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["pair_softplus", "pair_softplus_filtered"])
def test_pair_softplus_is_the_references(golden, case, form):
    picked = golden.get(f"{case}/{form}/picked_part")
    values, _, slope = value_and_slope(
        partial(pair_softplus, picked=picked), golden[f"{case}/embeddings"], golden[f"{case}/labels"]
    )
    assert relative_error(values, golden[f"{case}/{form}/loss"]) < 1e-5
    assert relative_error(slope, golden[f"{case}/{form}/grad"]) < 2e-4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("form", "scale", "smoothing"), [("ce", 1.0, 0.0), ("ce_smooth", 16.0, 0.1)])
def test_cross_entropy_is_the_references(golden, case, form, scale, smoothing):
    def loss(logits, labels):
        return cross_entropy(logits, labels, scale, smoothing), {}

    values, _, slope = value_and_slope(loss, golden[f"{case}/logits"], golden[f"{case}/labels"])
    assert relative_error(values, golden[f"{case}/{form}/loss"]) < 1e-5
    assert relative_error(slope, golden[f"{case}/{form}/grad"]) < 2e-4


# Plain loops over the formulas, in float64: an anchor, a positive, a negative.


def triplets_of(labels):
    rows = range(len(labels))
    return [
        (a, i, j)
        for a in rows
        for i in rows
        for j in rows
        if labels[a] >= 0 and labels[j] >= 0 and labels[a] == labels[i] != labels[j]
    ]


def cosine(x, y):
    norms = math.sqrt(x @ x) * math.sqrt(y @ y)
    return x @ y / norms if norms > 0 else 0.0


def unlikeness(x, y):
    return 1 - (cosine(x, y) + 1) / 2 + 0.01


def triplet_oracle(embeddings, labels, margin=0.2, weighted=True, weights_from=None):
    """Loss of every part. The weights come from `weights_from`, since they carry no gradient."""
    weigh_by = embeddings if weights_from is None else weights_from
    real = [i for i in range(len(labels)) if labels[i] >= 0]
    parts = range(embeddings.shape[1])
    largest = max(unlikeness(weigh_by[i, p], weigh_by[j, p]) for p in parts for i in real for j in real)
    losses = []
    for p in parts:

        def weighted_distance(i, j, p=p):
            u = unlikeness(weigh_by[i, p], weigh_by[j, p])
            return (1 + u / largest if weighted else 1.0) * math.dist(embeddings[i, p], embeddings[j, p])

        hinges = [weighted_distance(a, i) - weighted_distance(a, j) + margin for a, i, j in triplets_of(labels)]
        active = [hinge for hinge in hinges if hinge > 0]
        losses.append(sum(active) / max(len(active), 1))
    return np.array(losses)


SIMILARITY = {"dot": np.dot, "cosine": cosine, "distance": lambda x, y: -math.dist(x, y)}


def softplus_oracle(embeddings, labels, temperature=0.1, similarity="dot", picked=None, judge_from=None):
    judge = embeddings if judge_from is None else judge_from
    alike = SIMILARITY[similarity]
    losses = []
    for p in range(embeddings.shape[1]):
        values = []
        for a, i, j in triplets_of(labels):
            x = embeddings[:, p]
            value = np.logaddexp(0, (alike(x[a], x[j]) - alike(x[a], x[i])) / temperature)
            if picked is not None:
                y = judge[:, picked]
                value *= 0.5 if alike(y[a], y[j]) > alike(y[a], y[i]) else 1.0
            values.append(value)
        losses.append(np.mean(values) if values else 0.0)
    return np.array(losses)


def uniformity_oracle(embeddings, labels, t=2.0):
    losses = []
    for p in range(embeddings.shape[1]):
        means = [embeddings[labels == label, p].mean(0) for label in sorted(set(labels[labels >= 0]))]
        means = [m / np.linalg.norm(m) for m in means]
        near = [math.exp(-t * math.dist(m, o) ** 2) for i, m in enumerate(means) for j, o in enumerate(means) if i != j]
        losses.append(math.log(np.mean(near)) if near else 0.0)
    return np.array(losses)


LABELS = {
    "unequal": [4, 0, 0, 9, 4, 0, 0],
    "class_of_one": [0, 1, 1, 2],
    "one_class": [3, 3, 3, 3],
    "filled": [5, 5, -1, 2, 2, 2, -1],
    "all_alone": [0, 1, 2],
}
ORACLES = {
    "weighted_triplet": (weighted_triplet, triplet_oracle),
    "plain_triplet": (partial(weighted_triplet, weighted=False), partial(triplet_oracle, weighted=False)),
    "softplus_dot": (pair_softplus, softplus_oracle),
    "softplus_cosine": (partial(pair_softplus, similarity="cosine"), partial(softplus_oracle, similarity="cosine")),
    "softplus_distance": (
        partial(pair_softplus, similarity="distance", temperature=0.5),
        partial(softplus_oracle, similarity="distance", temperature=0.5),
    ),
    "softplus_filtered": (partial(pair_softplus, picked=1), partial(softplus_oracle, picked=1)),
    "class_uniformity": (class_uniformity, uniformity_oracle),
}
FIXED = {"weighted_triplet": "weights_from", "softplus_filtered": "judge_from"}  # what carries no gradient


def make_embeddings(labels, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(len(labels), 2, 3)).astype(np.float32) * np.float32(0.5)
    embeddings[1] = embeddings[0]  # equal rows
    return embeddings


@pytest.mark.parametrize("case", LABELS)
@pytest.mark.parametrize("name", ORACLES)
def test_a_term_is_its_plain_loop(name, case):
    loss, oracle = ORACLES[name]
    labels, embeddings = np.array(LABELS[case], np.int32), make_embeddings(LABELS[case])
    values, _, slope = value_and_slope(loss, embeddings, labels)
    wide = embeddings.astype(np.float64)
    np.testing.assert_allclose(values, oracle(wide, labels), rtol=1e-5, atol=1e-6)

    fixed = {FIXED[name]: wide} if name in FIXED else {}
    # The distance of equal rows has a kink: their slope is the mean of both sides, which central differences give.
    expected = np.zeros_like(wide)
    for index in np.ndindex(wide.shape):
        step = np.zeros_like(wide)
        step[index] = 1e-6
        high, low = (np.mean(oracle(wide + sign * step, labels, **fixed)) for sign in (1, -1))
        expected[index] = (high - low) / 2e-6
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=2e-5)
