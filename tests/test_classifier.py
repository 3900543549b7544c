"""The BNNeck classifier, optional on the networks that were published without one, and sharded by classes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_models import SMALL, variables

from gil_jax.losses import make_loss
from gil_jax.sharding import batch_sharding, make_mesh, replicated, state_sharding
from gil_jax.train_state import TrainState, make_network
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch

CLASSES = 6


def batch_of(n, s=4):
    draw = np.random.default_rng(2)
    silhouettes = draw.integers(0, 256, (n, s, 64, 44), np.uint8)
    return Batch(silhouettes, np.ones((n, s), bool), np.repeat(np.arange(n // 2), 2).astype(np.int32))


@pytest.mark.parametrize("name", ["gaitset", "gaitpart", "gln"])
def test_a_classifier_behind_the_embeddings_leaves_them_alone(name):
    without = make_network({"name": name, **SMALL[name]})
    network = make_network({"name": name, **SMALL[name], "num_classes": CLASSES})
    params, batch_stats = variables(network)
    silhouettes, frame_mask, _ = batch_of(4, 2)

    def train(network, params, batch_stats):
        return network.train(params, batch_stats, silhouettes, frame_mask, jax.random.key(0))

    own = {key: value for key, value in params.items() if key not in ("norm", "classifier")}
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, jax.eval_shape(without.init, 0)[0])
    plain, stats = jax.jit(lambda: train(without, own, {}))()
    output, moved = jax.jit(lambda: train(network, params, batch_stats))()
    assert plain.logits is None
    assert stats == {}
    np.testing.assert_array_equal(output.embeddings, plain.embeddings)

    flat = np.asarray(output.embeddings, np.float64).reshape(4, -1)
    normed = (flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5) * params["norm"]["scale"] + params["norm"]["bias"]
    normed = normed.reshape(output.embeddings.shape)
    for n in range(4):
        for part, weights in enumerate(np.asarray(params["classifier"]["kernel"], np.float64)):
            vector = normed[n, part]
            cosines = vector @ weights / np.linalg.norm(vector) / np.linalg.norm(weights, axis=0)
            np.testing.assert_allclose(output.logits[n, part], cosines, atol=2e-4)
    np.testing.assert_allclose(
        moved["norm"]["mean"], 0.9 * batch_stats["norm"]["mean"] + 0.1 * flat.mean(0), rtol=1e-4, atol=1e-5
    )


NORMED = {  # BatchNorm over sequences; over sequences and parts
    "baseline": {"channels": (2, 4, 4), "features": 8},
    "gaitgl": {"channels": (2, 4, 4, 4), "features": 8},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMED)
def test_a_step_with_batch_statistics_and_sharded_classes_is_the_step_of_one_device(name):
    network = make_network({"name": name, **NORMED[name], "num_classes": CLASSES})
    optimizer = optax.sgd(0.1, momentum=0.9)
    loss = make_loss({"s_triplet": {"margin": 0.2}, "cross_entropy": {"scale": 4.0}})
    step = make_train_step(network, loss, optimizer, lambda _: jnp.float32(0.1), 0)
    params, batch_stats = variables(network)
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))
    batch = batch_of(8)
    one = jax.jit(step)(state, batch)

    mesh = make_mesh(model_devices=2)
    layout, batch_layout = state_sharding(mesh, jax.eval_shape(lambda: state)), batch_sharding(mesh)
    sharded = [
        jax.tree_util.keystr(path)
        for path, place in jax.tree_util.tree_leaves_with_path(layout)
        if not place.is_fully_replicated
    ]
    assert len(sharded) == 2  # the class weights and their momentum
    assert all("classifier" in path for path in sharded)
    jitted = jax.jit(step, in_shardings=(layout, batch_layout), out_shardings=(layout, replicated(mesh)))
    many = jitted(jax.device_put(state, layout), jax.device_put(batch, batch_layout))
    kernel = many[0].params["classifier"]["kernel"]
    assert kernel.addressable_shards[0].data.shape[-1] == CLASSES // 2
    np.testing.assert_allclose(many[1]["loss"], one[1]["loss"], rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(many[0]), jax.tree.leaves(one[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * float(np.abs(theirs).max()))
