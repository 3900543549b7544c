"""A loss of the pairs of one part, over all parts: one part after the other, and on several devices at once.

Parts are independent of each other. So a part is worked through while its matrices [n, n] are in the cache, value and
slope together, and several devices take some parts each: the embeddings of a batch that is cut over the mesh axis
"data" change hands once forward and their slopes once backward, and next to nothing is exchanged in between.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec

from gil_jax.losses.pairs import Classes, classes_of, cosines, pairs_of

AXIS = "data"


class Surroundings(NamedTuple):
    """What a part may want to know beside its pairs: the classes; the least cosine of all pairs in all parts."""

    classes: Classes
    least_cosine: Any


def _work_through(part_loss: Callable, embeddings, labels, given, devices: int):
    """Losses [p], statistics [p] and slopes [n, p, d] of the parts [n, p, d] of one device."""
    classes = classes_of(labels)
    rows_of = partial(lax.dynamic_index_in_dim, embeddings, axis=1, keepdims=False)
    real = classes.same | classes.different

    def measure(i):
        pairs = pairs_of(rows_of(i), labels)
        return pairs, jnp.min(jnp.where(real, cosines(pairs), 1.0))

    indices = jnp.arange(embeddings.shape[1])
    all_pairs, least = lax.map(measure, indices)
    least = jnp.min(least)
    if devices > 1:
        least = lax.pmin(least, AXIS)
    surroundings = Surroundings(classes, least)

    def work(slopes, part):
        i, pairs = part
        loss = lambda pairs: part_loss(pairs, surroundings, given)  # noqa: E731
        (value, statistics), by_pairs = jax.value_and_grad(loss, has_aux=True)(pairs)
        _, back = jax.vjp(lambda rows: pairs_of(rows, labels), rows_of(i))
        slopes = lax.dynamic_update_index_in_dim(slopes, back(by_pairs)[0], i, axis=1)
        return slopes, (value, statistics)

    slopes, (values, statistics) = lax.scan(work, jnp.zeros_like(embeddings), (indices, all_pairs))
    return values, statistics, slopes


def _on_all_devices(part_loss, embeddings, labels, given):
    mesh = jax.typeof(embeddings).sharding.mesh
    devices = dict(zip(mesh.axis_names, mesh.axis_sizes, strict=True)).get(AXIS, 1)
    if devices == 1:
        return _work_through(part_loss, embeddings, labels, given, devices)
    parts = embeddings.shape[1]
    embeddings = jnp.pad(embeddings, ((0, 0), (0, -parts % devices), (0, 0)))
    whole, of_parts, slopes_of_parts = PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(None, AXIS)
    values, statistics, slopes = jax.shard_map(
        partial(_work_through, part_loss, devices=devices),
        mesh=mesh,
        in_specs=(slopes_of_parts, whole, whole),
        out_specs=(of_parts, of_parts, slopes_of_parts),
        check_vma=False,
    )(embeddings, labels, given)
    values, statistics = jax.tree.map(lambda x: x[:parts], (values, statistics))
    return values, statistics, slopes[:, :parts]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def over_parts(part_loss: Callable, embeddings, labels, given):
    """part_loss(pairs of a part, Surroundings, given) -> (float32, statistics), of every part.

    embeddings: float32 [n, p, d], labels: int32 [n], both of the global batch; given: arrays that all parts see.
    Returns (losses float32 [p], statistics with a leading axis p). Only the embeddings get a gradient, from the losses.
    """
    return _on_all_devices(part_loss, embeddings, labels, given)[:2]


def _forward(part_loss, embeddings, labels, given):
    values, statistics, slopes = _on_all_devices(part_loss, embeddings, labels, given)
    return (values, statistics), slopes


def _backward(part_loss, slopes, cotangents):
    del part_loss
    return slopes * cotangents[0][:, None], None, None


over_parts.defvjp(_forward, _backward)
