"""The losses against the reference's numbers, the paper's equations in float64, plain loops, and hostile batches."""

import math
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from gil_jax.losses import SimCE, cross_entropy, m_simce, s_triplet, simce
from gil_jax.losses.parts import over_parts
from gil_jax.ops.pairs import classes_of, distances
from gil_jax.ops.triplets import hinge_over_triplets, softplus_over_triplets

CASES = ("balanced", "unbalanced", "duplicates", "large")
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden():
    """Released code, float32, and the paper's equations, float64."""
    with np.load(GOLDEN / "losses.npz") as released, np.load(GOLDEN / "paper_losses.npz") as paper:
        assert all(np.array_equal(released[f"{case}/embeddings"], paper[f"{case}/embeddings"]) for case in CASES)
        return dict(released) | dict(paper)


def relative_error(ours, theirs):
    return np.max(np.abs(np.asarray(ours) - theirs)) / max(np.max(np.abs(theirs)), 1e-12)


def compile_loss(loss):
    """(embeddings, labels) -> (loss [p], statistics, gradient of the mean), compiled as in a training step."""

    def mean(embeddings, labels):
        values, statistics = loss(embeddings, labels)
        return jnp.mean(values), (values, statistics)

    program = jax.jit(jax.value_and_grad(mean, has_aux=True))

    def call(embeddings, labels):
        (_, (values, statistics)), gradient = program(jnp.asarray(embeddings), jnp.asarray(labels))
        return values, statistics, gradient

    return call


def simce_by_part(embeddings, labels, picked):
    """SimCE filtered by a part that is given, not drawn."""
    term = SimCE()
    return over_parts(term.value, embeddings, labels, (term.gate(embeddings, labels, picked), jnp.float32(0.5)))


PAPER = {
    "s_triplet_paper": partial(s_triplet, weights="paper"),
    "s_triplet_released": s_triplet,
    "simce": simce,
    "m_simce": m_simce,
}


@pytest.mark.parametrize("term", PAPER)
def test_a_term_is_the_papers_equation(golden, term):
    for case in CASES:
        embeddings, labels = golden[f"{case}/embeddings"], golden[f"{case}/labels"]
        values, _, gradient = compile_loss(PAPER[term])(embeddings, labels)
        assert relative_error(values, golden[f"{case}/{term}/loss"]) < 1e-5, case
        assert relative_error(gradient, golden[f"{case}/{term}/grad"]) < 1e-5, case


@pytest.mark.parametrize("case", CASES)
def test_s_triplet_is_the_released_one(golden, case):
    values, statistics, gradient = compile_loss(s_triplet)(golden[f"{case}/embeddings"], golden[f"{case}/labels"])
    theirs = {key: golden[f"{case}/weighted_triplet/{key}"] for key in ("loss", "grad", "hard_loss", "loss_num")}
    # The reference puts equal rows, and rows and themselves, up to 1e-3 apart, by rounding; here they are at 0.
    rounding = 2e-4 if case == "duplicates" else 1e-5
    assert relative_error(values, theirs["loss"]) < rounding
    assert relative_error(statistics["hardest"], theirs["hard_loss"]) < rounding
    assert relative_error(statistics["mean_distance"], golden[f"{case}/weighted_triplet/mean_dist"]) < 1e-4
    np.testing.assert_array_equal(statistics["nonzero"], theirs["loss_num"])
    assert relative_error(gradient, theirs["grad"]) < 2e-4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["pair_softplus", "pair_softplus_filtered"])
def test_simce_is_the_released_one(golden, case, form):
    filtered = partial(simce_by_part, picked=jnp.int32(golden[f"{case}/pair_softplus_filtered/picked_part"]))
    loss = filtered if form.endswith("filtered") else simce
    values, _, gradient = compile_loss(loss)(golden[f"{case}/embeddings"], golden[f"{case}/labels"])
    assert relative_error(values, golden[f"{case}/{form}/loss"]) < 1e-5
    assert relative_error(gradient, golden[f"{case}/{form}/grad"]) < 2e-4


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("form", "fields"), [("ce", {}), ("ce_smooth", {"scale": 16.0, "smoothing": 0.1})])
def test_cross_entropy_is_the_released_one(golden, case, form, fields):
    def loss(logits, labels):
        return cross_entropy(logits, labels, **fields), {}

    values, _, gradient = compile_loss(loss)(golden[f"{case}/logits"], golden[f"{case}/labels"])
    assert relative_error(values, golden[f"{case}/{form}/loss"]) < 1e-5
    assert relative_error(gradient, golden[f"{case}/{form}/grad"]) < 2e-4


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


def triplet_oracle(embeddings, labels, weights, margin=0.2, fixed=None):
    """Loss of every part. The weights come from `fixed`, since they carry no gradient."""
    weigh_by = embeddings if fixed is None else fixed
    real = [i for i in range(len(labels)) if labels[i] >= 0]
    parts = range(embeddings.shape[1])
    largest = max(unlikeness(weigh_by[i, p], weigh_by[j, p]) for p in parts for i in real for j in real) if real else 1
    losses = []
    for p in parts:

        def weight(i, j, p=p):
            x, y = weigh_by[i, p], weigh_by[j, p]
            return {"none": 1.0, "paper": (1 - cosine(x, y)) / 2, "released": 1 + unlikeness(x, y) / largest}[weights]

        def distance(i, j, p=p):
            return math.dist(embeddings[i, p], embeddings[j, p])

        hinges = [
            margin + weight(a, i) * distance(a, i) - weight(a, j) * distance(a, j) for a, i, j in triplets_of(labels)
        ]
        active = [hinge for hinge in hinges if hinge > 0]
        losses.append(sum(active) / max(len(active), 1))
    return np.array(losses)


SIMILARITY = {"dot": np.dot, "cosine": cosine, "distance": lambda x, y: -math.dist(x, y)}


def simce_oracle(embeddings, labels, temperature=0.1, similarity="dot", picked=None, fixed=None):
    gate = embeddings if fixed is None else fixed
    alike = SIMILARITY[similarity]
    losses = []
    for p in range(embeddings.shape[1]):
        values = []
        for a, i, j in triplets_of(labels):
            x = embeddings[:, p]
            value = np.logaddexp(0, (alike(x[a], x[j]) - alike(x[a], x[i])) / temperature)
            if picked is not None:
                y = gate[:, picked]
                value *= 0.5 if alike(y[a], y[j]) > alike(y[a], y[i]) else 1.0
            values.append(value)
        losses.append(np.mean(values) if values else 0.0)
    return np.array(losses)


def m_simce_oracle(embeddings, labels, temperature=0.1, similarity="dot"):
    alike, rows = SIMILARITY[similarity], range(len(labels))
    losses = []
    for p in range(embeddings.shape[1]):
        x, values = embeddings[:, p], []
        for a in rows:
            negatives = [alike(x[a], x[j]) / temperature for j in rows if labels[j] >= 0 and labels[j] != labels[a]]
            for i in rows:
                if negatives and labels[a] >= 0 and labels[i] == labels[a]:
                    positive = alike(x[a], x[i]) / temperature
                    values.append(np.logaddexp.reduce([positive, *negatives]) - positive)
        losses.append(np.mean(values) if values else 0.0)
    return np.array(losses)


LABELS = {
    "unequal": [4, 0, 0, 9, 4, 0, 0],  # a class of one among them
    "one_class": [3, 3, 3, 3, 3, 3, 3],
    "padded": [5, 5, -1, 2, 2, 2, -1],
    "all_alone": [0, 1, 2, 6, 5, 4, 3],
    "only_padding": [-1, -1, -1, -1, -1, -1, -1],
}
OURS = {"similarity": "distance", "temperature": 0.5}
ORACLES = {
    "s_triplet": (s_triplet, partial(triplet_oracle, weights="released")),
    "s_triplet_paper": (partial(s_triplet, weights="paper"), partial(triplet_oracle, weights="paper")),
    "triplet": (partial(s_triplet, weights="none"), partial(triplet_oracle, weights="none")),
    "simce": (simce, simce_oracle),
    "simce_cosine": (partial(simce, similarity="cosine"), partial(simce_oracle, similarity="cosine")),
    "simce_distance": (partial(simce, **OURS), partial(simce_oracle, **OURS)),
    "simce_filtered": (partial(simce_by_part, picked=jnp.int32(1)), partial(simce_oracle, picked=1)),
    "m_simce": (m_simce, m_simce_oracle),
    "m_simce_cosine": (partial(m_simce, similarity="cosine"), partial(m_simce_oracle, similarity="cosine")),
    "m_simce_distance": (partial(m_simce, **OURS), partial(m_simce_oracle, **OURS)),
}
FIXED = ("s_triplet", "s_triplet_paper", "simce_filtered")  # weights and gate carry no gradient


@pytest.fixture(scope="module")
def programs():
    return {name: compile_loss(loss) for name, (loss, _) in ORACLES.items()}


def make_embeddings(n, seed=0):
    embeddings = np.random.default_rng(seed).normal(size=(n, 2, 3)).astype(np.float32) * np.float32(0.5)
    embeddings[1] = embeddings[0]  # equal rows
    return embeddings


@pytest.mark.parametrize("name", ORACLES)
def test_a_term_is_its_plain_loop(programs, name):
    oracle, program, embeddings = ORACLES[name][1], programs[name], make_embeddings(7)
    wide = embeddings.astype(np.float64)
    fixed = {"fixed": wide} if name in FIXED else {}
    directions = np.random.default_rng(1).normal(size=(5, *wide.shape))
    directions[:, 1] = directions[:, 0]  # equal rows stay equal: their distance has a kink at 0
    for case, labels in LABELS.items():
        labels = np.array(labels, np.int32)
        values, _, gradient = program(embeddings, labels)
        np.testing.assert_allclose(values, oracle(wide, labels), rtol=1e-5, atol=1e-6, err_msg=case)
        for direction in directions:
            high, low = (np.mean(oracle(wide + sign * 1e-6 * direction, labels, **fixed)) for sign in (1, -1))
            np.testing.assert_allclose(
                np.vdot(gradient, direction), (high - low) / 2e-6, rtol=2e-4, atol=1e-5, err_msg=case
            )


@pytest.mark.parametrize("name", ORACLES)
def test_hostile_embeddings_give_finite_losses_and_gradients(programs, name):
    program, plain = programs[name], make_embeddings(12)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, -1, 2, -1, 3, 3], np.int32)
    far = plain + np.float32(1e4)  # a collapsed network: long embeddings, all alike
    cases = {"zeros": 0 * plain, "equal": 0 * plain + plain[:1], "far": far, "tiny": plain * np.float32(1e-20)}
    cases |= {f"{size:g}": plain * np.float32(size) for size in (1e4, 1e6, 1e18)}
    for case, embeddings in cases.items():
        values, statistics, gradient = program(embeddings, labels)
        for result in (values, gradient, *statistics.values()):
            assert np.all(np.isfinite(result)), (case, result)
        if case == "1e+04":
            expected = ORACLES[name][1](embeddings.astype(np.float64), labels)
            np.testing.assert_allclose(values, expected, rtol=1e-4)

    garbage = plain.copy()
    garbage[labels < 0] = np.nan
    expected, results = (jax.tree.leaves(program(embeddings, labels)) for embeddings in (plain, garbage))
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_cross_entropy_of_padding_rows_has_no_gradient():
    logits = np.random.default_rng(0).normal(size=(4, 2, 5)).astype(np.float32)
    labels = np.array([0, 1, 2, -1], np.int32)
    garbage = logits.copy()
    garbage[3] = np.nan
    for fields in ({}, {"scale": 16.0, "smoothing": 0.1}):
        loss = compile_loss(lambda x, labels, fields=fields: (cross_entropy(x, labels, **fields), {}))
        expected, results = loss(logits, labels), loss(garbage, labels)
        np.testing.assert_array_equal(results[0], expected[0])
        np.testing.assert_array_equal(results[2], expected[2])
        np.testing.assert_array_equal(results[2][3], 0)
        np.testing.assert_allclose(
            expected[0][0], cross_entropy(jnp.asarray(logits[:3]), jnp.asarray(labels[:3]), **fields)[0], rtol=0.1
        )


def test_distances_of_a_collapsed_batch_keep_their_digits():
    """Embeddings 1e4 long that differ by 1: plain inner products would be wrong by 10 of these distances squared."""
    plain, labels = make_embeddings(12), np.repeat(np.arange(4), 3).astype(np.int32)
    plain = np.round(plain * 64) / 64  # exact in float32 when 8192 is added
    loss = compile_loss(partial(s_triplet, weights="none"))
    expected = loss(plain, labels)
    values, _, gradient = loss(plain + np.float32(8192), labels)
    np.testing.assert_allclose(values, expected[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, expected[2], rtol=1e-4, atol=1e-6)


def test_counts_hold_for_large_batches():
    """2048 rows in two classes: 2,147,483,648 triplets, one more than an int32 holds; all of them non-zero."""
    embeddings, labels = np.zeros((2048, 1, 2), np.float32), np.arange(2048, dtype=np.int32) // 1024
    embeddings[:, 0, 0] = 1e-3 * labels
    values, statistics, _ = compile_loss(partial(s_triplet, weights="none"))(embeddings, labels)
    np.testing.assert_allclose(statistics["nonzero"], 2.0**31)
    np.testing.assert_allclose(values, 0.2 - 1e-3, rtol=1e-5)


def test_a_learnable_parameter_of_a_loss_is_refused_not_ignored():
    embeddings, labels = jnp.asarray(make_embeddings(6)), jnp.array([0, 0, 1, 1, 2, 2])
    matrix, classes = jnp.ones((6, 6)), classes_of(labels)

    def scaled(scale):
        part_loss = lambda pairs, context, scale: (scale * jnp.mean(distances(pairs)), {})  # noqa: E731
        return jnp.mean(over_parts(part_loss, embeddings, labels, scale)[0])

    asked = {
        "over_parts": scaled,
        "hinge_over_triplets": lambda margin: hinge_over_triplets(matrix, classes, margin)[0],
        "softplus_over_triplets": lambda weight: softplus_over_triplets(matrix, classes, matrix, weight)[0],
    }
    for name, function in asked.items():
        for gradient in (jax.grad(function), jax.jit(jax.grad(function))):
            with pytest.raises(ValueError, match=f"{name} has a gradient with respect to the embeddings alone"):
                gradient(jnp.float32(2.0))
        assert np.isfinite(function(jnp.float32(2.0)))
        assert jax.grad(lambda x, f=function: f(jax.lax.stop_gradient(x)))(jnp.float32(2.0)) == 0
    # Handed over by a closure; with run-time types the field refuses it.
    with pytest.raises((jax.errors.UnexpectedTracerError, TypeCheckError)):
        jax.grad(lambda margin: jnp.mean(s_triplet(embeddings, labels, margin=margin)[0]))(jnp.float32(0.2))
