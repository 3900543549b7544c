"""The BNNeck classifier, optional on the networks that were published without one, and sharded by classes."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from test_models import SMALL, variables

from gil_jax.describe import collectives
from gil_jax.losses import make_loss
from gil_jax.sharding import batch_sharding, replicated, state_sharding
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


NETWORKS = {  # 2-D convolutions, BatchNorm over sequences; 3-D convolutions, BatchNorm over sequences and parts
    "baseline": {"channels": (2, 4, 4), "features": 8},
    "gaitgl": {"channels": (2, 4, 4, 4), "features": 8},
}
LOSSES = {
    "s_triplet": {"margin": 0.2},
    "m_simce": {"similarity": "cosine"},
    "cross_entropy": {"scale": 4.0, "smoothing": 0.1},
}
MANY = 52  # classes: a number that no other axis of these networks has


def mesh_of(data, model):
    devices = jax.devices()[: data * model]
    return jax.make_mesh((data, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=devices)


@pytest.fixture(scope="module", params=NETWORKS)
def training(request):
    """(step, state, batch, the state and the metrics after the step without any mesh)."""
    network = make_network({"name": request.param, **NETWORKS[request.param], "num_classes": MANY})
    optimizer = optax.sgd(0.1, momentum=0.9)
    step = make_train_step(network, make_loss(LOSSES), optimizer, lambda _: jnp.float32(0.1), 0)
    params, batch_stats = variables(network)
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))
    return step, state, batch_of(8), jax.jit(step)(state, batch_of(8))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (8, 1), (4, 2), (2, 4)])
def test_a_step_on_a_mesh_is_the_step_without_one(training, shape):
    step, state, batch, (expected, expected_metrics) = training
    mesh = mesh_of(*shape)
    layout, batch_layout = state_sharding(mesh, jax.eval_shape(lambda: state)), batch_sharding(mesh)
    jitted = jax.jit(step, in_shardings=(layout, batch_layout), out_shardings=(layout, replicated(mesh)))
    on_devices = jax.device_put(state, layout), jax.device_put(batch, batch_layout)
    compiled = jitted.lower(*on_devices).compile()
    found, metrics = compiled(*on_devices)

    for name in (*LOSSES, "loss", "gradient_norm", "parameter_norm"):
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-4, err_msg=name)
    # Parameters, momentum (the gradients) and statistics of BatchNorm.
    for (path, ours), theirs in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        scale = float(np.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * scale, err_msg=jax.tree_util.keystr(path))
    sharded = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(found)
        if leaf.addressable_shards[0].data.size < leaf.size
    ]
    if shape[1] == 1:
        assert sharded == []
        return
    assert len(sharded) == 2  # the class weights and their momentum
    assert all("classifier" in path for path in sharded)
    # No array of a device has all classes: neither logits nor their gradients are ever gathered.
    program = compiled.as_text()
    axes = {int(axis) for dims in re.findall(r"\w+\[([\d,]+)\]", program) for axis in dims.split(",")}
    assert MANY // shape[1] in axes
    assert MANY not in axes
    # The largest exchange is the gradient of the parameters that a device holds.
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(found.params))
    assert max(size for _, size in collectives(program)) <= held


def test_classes_that_devices_cannot_share_evenly_are_refused():
    state = {"params": {"classifier": {"kernel": jax.ShapeDtypeStruct((4, 8, 5153), jnp.float32)}}}
    with pytest.raises(ValueError, match=r"model_devices=4 devices cannot share 5153 .*num_classes=5156"):
        state_sharding(mesh_of(2, 4), state)
    assert state_sharding(mesh_of(8, 1), state)["params"]["classifier"]["kernel"].is_fully_replicated
