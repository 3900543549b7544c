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


def compile_loss(loss):
    """(embeddings, labels) -> (loss [p], statistics, slope of the mean), compiled as in a training step."""

    def mean(embeddings, labels):
        values, statistics = loss(embeddings, labels)
        return jnp.mean(values), (values, statistics)

    program = jax.jit(jax.value_and_grad(mean, has_aux=True))

    def call(embeddings, labels):
        (_, (values, statistics)), slope = program(jnp.asarray(embeddings), jnp.asarray(labels))
        return values, statistics, slope

    return call


def value_and_slope(loss, embeddings, labels):
    return compile_loss(loss)(embeddings, labels)


@pytest.mark.parametrize("case", CASES)
def test_weighted_triplet_is_the_references(golden, case):
    values, statistics, slope = value_and_slope(
        weighted_triplet, golden[f"{case}/embeddings"], golden[f"{case}/labels"]
    )
    theirs = {key: golden[f"{case}/weighted_triplet/{key}"] for key in ("loss", "grad", "hard_loss", "loss_num")}
    # The reference puts equal rows, and rows and themselves, up to 1e-3 apart, by rounding; here they are at 0.
    rounding = 2e-4 if case == "duplicates" else 1e-5
    exact = triplet_oracle(golden[f"{case}/embeddings"].astype(np.float64), golden[f"{case}/labels"])
    assert relative_error(values, exact) < 1e-6
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
    largest = max(unlikeness(weigh_by[i, p], weigh_by[j, p]) for p in parts for i in real for j in real) if real else 1
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
    "one_class": [3, 3, 3, 3, 3, 3, 3],
    "filled": [5, 5, -1, 2, 2, 2, -1],
    "all_alone": [0, 1, 2, 6, 5, 4, 3],
    "only_filling": [-1, -1, -1, -1, -1, -1, -1],
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
FIXED = {
    "weighted_triplet": "weights_from",
    "softplus_filtered": "judge_from",
    "softplus_centred": "mean_from",
}  # what carries no gradient


def make_embeddings(n, seed=0):
    embeddings = np.random.default_rng(seed).normal(size=(n, 2, 3)).astype(np.float32) * np.float32(0.5)
    embeddings[1] = embeddings[0]  # equal rows
    return embeddings


@pytest.mark.parametrize("name", ORACLES)
def test_a_term_is_its_plain_loop(name):
    loss, oracle = ORACLES[name]
    program, embeddings = compile_loss(loss), make_embeddings(7)
    wide = embeddings.astype(np.float64)
    fixed = {FIXED[name]: wide} if name in FIXED else {}
    directions = np.random.default_rng(1).normal(size=(5, *wide.shape))
    directions[:, 1] = directions[:, 0]  # equal rows stay equal: their distance has a kink at 0
    for case, labels in LABELS.items():
        labels = np.array(labels, np.int32)
        values, _, slope = program(embeddings, labels)
        np.testing.assert_allclose(values, oracle(wide, labels), rtol=1e-5, atol=1e-6, err_msg=case)
        for direction in directions:
            high, low = (np.mean(oracle(wide + sign * 1e-6 * direction, labels, **fixed)) for sign in (1, -1))
            np.testing.assert_allclose(
                np.vdot(slope, direction), (high - low) / 2e-6, rtol=2e-4, atol=1e-5, err_msg=case
            )


@pytest.mark.parametrize("name", ORACLES)
def test_hostile_embeddings_give_finite_losses_and_slopes(name):
    program, plain = compile_loss(ORACLES[name][0]), make_embeddings(12)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, -1, 2, -1, 3, 3], np.int32)
    far = plain + np.float32(1e4)  # a collapsed network: long embeddings, all alike
    cases = {"zeros": 0 * plain, "equal": 0 * plain + plain[:1], "far": far, "tiny": plain * np.float32(1e-20)}
    cases |= {f"{size:g}": plain * np.float32(size) for size in (1e6, 1e18)}
    for case, embeddings in cases.items():
        values, statistics, slope = program(embeddings, labels)
        for result in (values, slope, *statistics.values()):
            assert np.all(np.isfinite(result)), (case, result)

    garbage = plain.copy()
    garbage[labels < 0] = np.nan
    expected, results = (jax.tree.leaves(program(embeddings, labels)) for embeddings in (plain, garbage))
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_distances_of_a_collapsed_batch_keep_their_digits():
    """Embeddings 1e4 long that differ by 1: plain inner products would be wrong by 10 of these distances squared."""
    plain, labels = make_embeddings(12), np.repeat(np.arange(4), 3).astype(np.int32)
    plain = np.round(plain * 64) / 64  # exact in float32 beside 1e4
    expected = compile_loss(partial(weighted_triplet, weighted=False))(plain, labels)
    values, _, slope = compile_loss(partial(weighted_triplet, weighted=False))(plain + np.float32(8192), labels)
    np.testing.assert_allclose(values, expected[0], rtol=1e-5)
    np.testing.assert_allclose(slope, expected[2], rtol=1e-4, atol=1e-6)


def test_counts_hold_for_large_batches():
    """2048 rows in two classes: 2,147,483,648 triplets, one more than an int32 holds; all of them non-zero."""
    embeddings, labels = np.zeros((2048, 1, 2), np.float32), np.arange(2048, dtype=np.int32) // 1024
    embeddings[:, 0, 0] = 1e-3 * labels
    values, statistics, _ = value_and_slope(partial(weighted_triplet, weighted=False), embeddings, labels)
    np.testing.assert_allclose(statistics["nonzero"], 2.0**31)
    np.testing.assert_allclose(values, 0.2 - 1e-3, rtol=1e-5)
