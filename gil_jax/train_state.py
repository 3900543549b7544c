"""A network as pure functions over plain pytrees: the only file that knows how flax keeps its variables."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gil_jax.models import build_model
from gil_jax.ops.convolution import convolution_method


class TrainState(NamedTuple):
    """All that a checkpoint holds. step: int32 scalar, the number of steps done; the rest: nested dicts of arrays."""

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any


class Network(NamedTuple):
    """A network as three pure functions.

    init(seed) -> (params, batch_stats).
    train(params, batch_stats, silhouettes, frame_mask, key) -> (ModelOutput, batch_stats), in training mode.
    embed(params, batch_stats, silhouettes, frame_mask) -> ModelOutput, in evaluation mode.
    """

    init: Callable
    train: Callable
    embed: Callable


def make_network(model_config) -> Network:
    """Make the network of `config.model`; raise ValueError that names the field where the config does not fit."""
    method = model_config.get("convolution", "auto")

    def build(seed):
        key = jax.random.key(seed)
        return build_model(model_config, nnx.Rngs(params=key, dropout=jax.random.fold_in(key, 1)))

    def split(model):
        graph, params, batch_stats, random = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        return graph, nnx.to_pure_dict(params), nnx.to_pure_dict(batch_stats), nnx.to_pure_dict(random)

    graph, _, _, random = split(nnx.eval_shape(lambda: build(0)))

    def merge(params, batch_stats, key, training):
        leaves, structure = jax.tree.flatten(random)
        fresh = [
            jax.random.fold_in(key, i) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jnp.zeros_like(leaf)
            for i, leaf in enumerate(leaves)
        ]
        model = nnx.merge(graph, params, batch_stats, jax.tree.unflatten(structure, fresh))
        return nnx.view(model, raise_if_not_found=False, deterministic=not training, use_running_average=not training)

    def init(seed):
        _, params, batch_stats, _ = split(build(seed))
        return params, batch_stats

    def train(params, batch_stats, silhouettes, frame_mask, key):
        model = merge(params, batch_stats, key, training=True)
        with convolution_method(method):
            output = model(jnp.asarray(silhouettes), jnp.asarray(frame_mask))
        return output, split(model)[2]

    def embed(params, batch_stats, silhouettes, frame_mask):
        with convolution_method(method):
            model = merge(params, batch_stats, jax.random.key(0), training=False)
            return model(jnp.asarray(silhouettes), jnp.asarray(frame_mask))

    return Network(init, train, embed)


def count_parameters(params) -> int:
    """The number of trained values."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
