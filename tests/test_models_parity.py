"""Every network against the numbers of the PyTorch reference in tests/golden/models."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gil_jax.torch_weights import TABLES, from_torch
from gil_jax.train_state import make_network

GOLDEN = Path(__file__).parent / "golden" / "models"
CASES = {"gaitset": {"name": "gaitset", "channels": (2, 4, 8), "features": 16}}
SOFTMAX = {}  # case -> (scale, smoothing)
TERMS = {"triplet": 1.0, "softmax": 0.1, "infonce": 1.0}


def relative_error(ours, theirs):
    return np.max(np.abs(np.asarray(ours) - theirs)) / max(np.max(np.abs(theirs)), 1e-12)


def weighted_triplet(embeddings, labels):
    """Every triplet at once, as reference.md has it: fine for nine sequences."""
    x = embeddings.transpose(1, 0, 2)
    squares = (x**2).sum(-1)  # the reference's form of the distance: the golden losses hold its rounding
    squared = squares[:, :, None] + squares[:, None] - 2 * x @ x.transpose(0, 2, 1)
    distance = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
    unit = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    away = 1 - (unit @ unit.transpose(0, 2, 1) + 1) / 2 + 0.01
    distance = distance * jax.lax.stop_gradient(1 + away / away.max())
    same = labels[:, None] == labels
    loss = jax.nn.relu(distance[:, :, :, None] - distance[:, :, None, :] + 0.2)
    loss = jnp.where(same[:, :, None] & ~same[:, None, :], loss, 0.0)
    return (loss.sum((1, 2, 3)) / jnp.maximum(jnp.sum(loss > 0, (1, 2, 3), dtype=jnp.float32), 1)).mean()


def losses(case, output, labels):
    terms = {"triplet": weighted_triplet(output.embeddings, labels)}
    return terms


@pytest.fixture(scope="module", params=CASES)
def golden(request):
    """(case, numbers, network, params, batch_stats, compiled embedding)."""
    case = request.param
    with np.load(GOLDEN / f"{case}.npz") as file:
        numbers = dict(file)
    network = make_network(CASES[case])
    params, batch_stats = from_torch(group(numbers, "param/"), TABLES[CASES[case]["name"]])
    return case, numbers, network, params, batch_stats


def group(numbers, prefix):
    return {key.removeprefix(prefix): value for key, value in numbers.items() if key.startswith(prefix)}


def test_converted_variables_are_those_of_the_network(golden):
    _, _, network, params, batch_stats = golden
    shapes = jax.eval_shape(network.init, 0)
    assert jax.tree.map(jnp.shape, (params, batch_stats)) == jax.tree.map(jnp.shape, shapes)


def test_embeddings_of_all_lengths_in_one_padded_batch(golden):
    _, numbers, network, params, batch_stats = golden
    single = [numbers[f"eval/{i}/silhouettes"][0] for i in range(4 + ("eval/4/silhouettes" in numbers))]
    longest = max(map(len, single)) + 3
    silhouettes = np.stack([np.pad(x, [(0, longest - len(x)), (0, 0), (0, 0)], constant_values=255) for x in single])
    frame_mask = np.arange(longest) < np.array([[len(x)] for x in single])
    embeddings = jax.jit(network.embed)(params, batch_stats, silhouettes, frame_mask).embeddings
    for i, embedding in enumerate(embeddings):
        assert relative_error(embedding, numbers[f"eval/{i}/embedding"][0]) < 1e-5


def test_three_training_steps(golden):
    case, numbers, network, params, batch_stats = golden
    labels = numbers["train/labels"]
    frame_mask = np.ones(numbers["train/silhouettes"].shape[:2], bool)
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))

    @jax.jit
    def step(params, batch_stats, opt_state):
        def objective(params):
            output, stats = network.train(
                params, batch_stats, numbers["train/silhouettes"], frame_mask, jax.random.key(0)
            )
            terms = losses(case, output, labels)
            return sum(TERMS[term] * loss for term, loss in terms.items()), (output, terms, stats)

        (total, (output, terms, stats)), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state, gradients, output, {**terms, "total": total}

    def assert_close(ours, prefix, bound):
        theirs = from_torch({**group(numbers, "param/"), **group(numbers, prefix)}, TABLES[CASES[case]["name"]])
        errors = jax.tree.map(relative_error, ours, theirs[:1] if len(ours) == 1 else theirs)
        assert max(jax.tree.leaves(errors)) < bound, errors

    opt_state = optimizer.init(params)
    for i in range(3):
        params, batch_stats, opt_state, gradients, output, terms = step(params, batch_stats, opt_state)
        for term, loss in terms.items():
            assert relative_error(loss, numbers[f"train/loss_{term}/{i}"]) < 1e-5, (i, term)
        if i == 0:
            assert relative_error(output.embeddings, numbers["train/embeddings"]) < 1e-5
            assert (output.logits is None) == ("train/logits" not in numbers)
            if output.logits is not None:
                assert relative_error(output.logits, numbers["train/logits"]) < 1e-5
            assert_close((gradients,), "grad/", 2e-4)
    assert_close((params, batch_stats), "after_3/", 1e-4)
