"""Pairwise losses of every part: one part after the other, and on several devices at once.

Parts are independent of each other. So a part is worked through while its matrices [n, n] are in the cache, value and
gradient together, and several devices take some parts each: the embeddings of a batch that is sharded over the mesh
axis "data" are exchanged once forward (every device gets all rows of some parts) and their gradients once backward.
Besides, devices exchange the least cosine and the metrics.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from gil_jax.ops.gradients import with_own_gradient
from gil_jax.ops.pairs import Classes, classes_of, cosines, pairs_of
from gil_jax.sharding import BY_PARTS, BY_ROWS, DATA, REPLICATED, data_devices, per_device


class BatchContext(NamedTuple):
    """Batch-wide values that the loss of a part needs: the classes, and the least cosine of all pairs in all parts."""

    classes: Classes
    least_cosine: Float[Array, ""]


def parts_at_once() -> int:
    """The most parts worked on together: one fits a CPU's cache, an accelerator wants more work at a time."""
    return 1 if jax.default_backend() == "cpu" else 16


def group_parts(parts: int, devices: int, most: int) -> tuple[int, int]:
    """Share parts among devices: (groups of a device, parts of a group), at most `most`, with the least padding."""
    share = -(-parts // devices)
    groups = -(-share // most)
    return groups, -(-share // groups)


def _work_through(part_loss: Callable, embeddings, labels, extra, devices: int, together: int):
    """Losses [p], statistics [p] and gradients [n, p, d] of the parts [n, p, d] of one device."""
    classes = classes_of(labels)
    real = classes.same | classes.different

    def rows_of(start):
        return lax.dynamic_slice_in_dim(embeddings, start, together, axis=1).transpose(1, 0, 2)

    def measure(rows):
        pairs = pairs_of(rows, labels)
        return pairs, jnp.min(jnp.where(real, cosines(pairs), 1.0))

    # First pass: the inner products of all parts, as the weights of every part need the least cosine of all of them.
    starts = jnp.arange(0, embeddings.shape[1], together)
    all_pairs, least = lax.map(lambda start: jax.vmap(measure)(rows_of(start)), starts)
    least = jnp.min(least)
    if devices > 1:
        least = lax.pmin(least, DATA)
    context = BatchContext(classes, least)

    def work(rows, pairs):
        value_of = lambda pairs: part_loss(pairs, context, extra)  # noqa: E731
        (value, statistics), by_pairs = jax.value_and_grad(value_of, has_aux=True)(pairs)
        _, back = jax.vjp(lambda rows: pairs_of(rows, labels), rows)
        return back(by_pairs)[0], (value, statistics)

    # Second pass: value and gradient. The gradient is written where the part lies, so nothing is transposed afterwards.
    def step(gradients, group):
        start, pairs = group
        by_rows, results = jax.vmap(work)(rows_of(start), pairs)
        return lax.dynamic_update_slice_in_dim(gradients, by_rows.transpose(1, 0, 2), start, axis=1), results

    gradients, results = lax.scan(step, jnp.zeros_like(embeddings), (starts, all_pairs))
    values, statistics = jax.tree.map(lambda x: x.reshape(-1), results)
    return values, statistics, gradients


def _on_all_devices(part_loss: Callable, embeddings, labels, extra):
    devices = data_devices(embeddings)
    parts = embeddings.shape[1]
    groups, together = group_parts(parts, devices, parts_at_once())
    filling = ((0, 0), (0, devices * groups * together - parts), (0, 0))
    # Parts are padded to equal groups; with ones, whose cosines of 1 leave the least cosine as it is.
    embeddings = jnp.pad(embeddings, filling, constant_values=1.0)
    work_through = partial(_work_through, part_loss, devices=devices, together=together)
    if devices > 1:
        work_through = per_device(
            work_through, embeddings, (BY_PARTS, REPLICATED, REPLICATED), (BY_ROWS, BY_ROWS, BY_PARTS)
        )
    values, statistics, gradients = work_through(embeddings, labels, extra)
    values, statistics = jax.tree.map(lambda x: x[:parts], (values, statistics))
    return (values, statistics), gradients[:, :parts]


def over_parts(
    part_loss: Callable, embeddings: Float[Array, "n p d"], labels: Int[Array, " n"], extra: Any
) -> tuple[Float[Array, " p"], dict[str, Float[Array, " p"]]]:
    """Compute part_loss(pairs of a part, BatchContext, extra) -> (loss, statistics) of every part.

    embeddings and labels are those of the global batch. extra: any arrays that all parts see. Differentiable in the
    embeddings alone, through the losses; statistics carry no gradient. Raises ValueError where extra is differentiated.
    """

    def compute(embeddings, others):
        return _on_all_devices(part_loss, embeddings, *others)

    return with_own_gradient(compute, "over_parts")(embeddings, (labels, extra))
