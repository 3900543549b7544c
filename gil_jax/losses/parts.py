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

from gil_jax.ops.pairs import Classes, classes_of, cosines, pairs_of
from gil_jax.sharding import BY_PARTS, BY_ROWS, DATA, REPLICATED, data_devices, per_device


class Surroundings(NamedTuple):
    """What a part may want to know beside its pairs: the classes; the least cosine of all pairs in all parts."""

    classes: Classes
    least_cosine: Any


def parts_at_once() -> int:
    """A CPU is fastest on what its cache holds, one part; an accelerator wants enough to do at a time."""
    return 1 if jax.default_backend() == "cpu" else 16


def _work_through(part_loss: Callable, embeddings, labels, given, devices: int):
    """Losses [p], statistics [p] and slopes [n, p, d] of the parts [n, p, d] of one device."""
    classes, together = classes_of(labels), parts_at_once()
    real = classes.same | classes.different

    def rows_of(start):
        return lax.dynamic_slice_in_dim(embeddings, start, together, axis=1).transpose(1, 0, 2)

    def measure(rows):
        pairs = pairs_of(rows, labels)
        return pairs, jnp.min(jnp.where(real, cosines(pairs), 1.0))

    starts = jnp.arange(0, embeddings.shape[1], together)
    all_pairs, least = lax.map(lambda start: jax.vmap(measure)(rows_of(start)), starts)
    least = jnp.min(least)
    if devices > 1:
        least = lax.pmin(least, DATA)
    surroundings = Surroundings(classes, least)

    def work(rows, pairs):
        loss = lambda pairs: part_loss(pairs, surroundings, given)  # noqa: E731
        (value, statistics), by_pairs = jax.value_and_grad(loss, has_aux=True)(pairs)
        _, back = jax.vjp(lambda rows: pairs_of(rows, labels), rows)
        return back(by_pairs)[0], (value, statistics)

    def step(slopes, group):
        start, pairs = group
        by_rows, results = jax.vmap(work)(rows_of(start), pairs)
        return lax.dynamic_update_slice_in_dim(slopes, by_rows.transpose(1, 0, 2), start, axis=1), results

    slopes, results = lax.scan(step, jnp.zeros_like(embeddings), (starts, all_pairs))
    values, statistics = jax.tree.map(lambda x: x.reshape(-1), results)
    return values, statistics, slopes


def _on_all_devices(part_loss, embeddings, labels, given):
    devices = data_devices(embeddings)
    parts = embeddings.shape[1]
    filling = ((0, 0), (0, -parts % (devices * parts_at_once())), (0, 0))
    embeddings = jnp.pad(embeddings, filling, constant_values=1.0)  # cosines of 1: the least one stays
    work_through = partial(_work_through, part_loss, devices=devices)
    if devices > 1:
        work_through = per_device(
            work_through, embeddings, (BY_PARTS, REPLICATED, REPLICATED), (BY_ROWS, BY_ROWS, BY_PARTS)
        )
    values, statistics, slopes = work_through(embeddings, labels, given)
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
