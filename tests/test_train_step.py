"""One training step on a network of one matrix, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gil_jax.sharding import batch_sharding, make_mesh, to_devices
from gil_jax.train_state import Network, TrainState
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch, ModelOutput

PEOPLE, SEQUENCES = 8, 2


def _train(params, batch_stats, silhouettes, frame_mask, key):
    del frame_mask, key
    values = silhouettes.astype(jnp.float32).mean(axis=(1, 2, 3)) * params["w"]
    return ModelOutput(values[:, None, None]), {"count": batch_stats["count"] + 1}


def _mean_of_squares(output, labels, step, key):
    """A loss that a mean over pieces leaves the same."""
    del labels, step, key
    loss = jnp.mean(output.embeddings**2)
    return loss, {"squares": loss}


def _people_of_piece(output, labels, step, key):
    """A loss that is the label of the piece's first person, so that the mean tells who was together."""
    del step, key
    spread = (labels.max() - labels.min()).astype(jnp.float32)
    return jnp.sum(output.embeddings) * 0.0 + labels[0].astype(jnp.float32), {"spread": spread}


NETWORK = Network(lambda seed: ({}, {}), _train, _train)


def _step(loss, accumulate=1, rate=0.1):
    return make_train_step(
        NETWORK, loss, optax.sgd(rate), lambda _: jnp.float32(rate), 0, people=PEOPLE, accumulate=accumulate
    )


def _batch():
    rng = np.random.default_rng(0)
    silhouettes = rng.integers(0, 255, (PEOPLE * SEQUENCES, 3, 4, 2)).astype(np.uint8)
    labels = np.repeat(np.arange(PEOPLE, dtype=np.int32), SEQUENCES)
    return Batch(silhouettes, np.ones((len(labels), 3), bool), labels)


def _state(weight=0.5):
    params = {"w": jnp.float32(weight)}
    return TrainState(jnp.int32(0), params, {"count": jnp.float32(0)}, optax.sgd(0.1).init(params))


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_pieces_of_a_batch_give_the_gradient_of_the_batch(accumulate):
    batch = _batch()
    batch = to_devices(batch_sharding(make_mesh()), len(batch.labels), batch)
    state, metrics = jax.jit(_step(_mean_of_squares, accumulate, 1e-5))(_state(), batch)
    means = _batch().silhouettes.astype(np.float64).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(metrics["loss"], np.mean((0.5 * means) ** 2), rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], 2 * 0.5 * np.mean(means**2), rtol=1e-5)
    np.testing.assert_allclose(state.params["w"], 0.5 - 1e-5 * np.mean(means**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["parameter_norm"], abs(state.params["w"]), rtol=1e-6)
    assert float(state.batch_stats["count"]) == accumulate
    assert float(metrics["skipped"]) == 0


def test_a_piece_holds_every_second_person_with_all_sequences():
    _, metrics = jax.jit(_step(_people_of_piece, 2))(_state(), _batch())
    assert float(metrics["loss"]) == 0.5  # the first people are 0 and 1
    assert float(metrics["spread"]) == PEOPLE - 2  # 0, 2, 4, 6 and 1, 3, 5, 7


@pytest.mark.parametrize("weight", [np.nan, 1e38, 1e25])
def test_a_step_that_is_not_finite_keeps_the_state(weight):
    before = _state(weight)
    state, metrics = jax.jit(_step(_mean_of_squares))(before, _batch())
    assert float(metrics["skipped"]) == 1
    assert int(state.step) == 1
    np.testing.assert_array_equal(state.params["w"], before.params["w"])
    assert float(state.batch_stats["count"]) == 0
