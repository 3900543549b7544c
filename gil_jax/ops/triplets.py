"""Exact sums over all triplets (anchor, positive, negative) of a matrix, without an array of the triplets.

An anchor's positives are taken one at a time, against all rows at once: time n^2 K for classes of up to K rows, memory
n^2. K is known only when the program runs, so the pass is a while loop, which JAX cannot differentiate in reverse;
value and gradient therefore come from the same pass. Sums are kept as [n, n] and added up last: on a CPU, a few passes
over a matrix in the cache are faster than anything that sorts.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gil_jax.ops.gradients import with_own_gradient
from gil_jax.ops.pairs import Classes, positives_of


def number_of_triplets(classes: Classes) -> Float[Array, ""]:
    """Count all (anchor, positive, negative), an anchor being its own positive; float32, as int32 would overflow."""
    return jnp.sum(classes.size.astype(jnp.float32) * jnp.sum(classes.different, 0, dtype=jnp.float32))


def _hinge(distance, extra):
    """Mean over the non-zero triplets and their number; gradient of the mean."""
    classes, margin = extra
    negatives = jnp.where(classes.different, distance, jnp.inf)

    def body(k, carry):
        total, positive_grad, negative_grad = carry
        # An anchor without a k-th positive reaches to -inf, so none of its negatives is inside.
        positive_plus_margin = positives_of(distance, k, classes, -jnp.inf) + margin
        inside = positive_plus_margin > negatives
        # Row k of positive_grad: for every anchor, triplets with its k-th positive. One pair collects them all.
        positive_grad = lax.dynamic_update_index_in_dim(positive_grad, jnp.sum(inside, 0, dtype=jnp.int32), k, 0)
        total += jnp.maximum(positive_plus_margin - negatives, 0.0)
        return total, positive_grad, negative_grad + inside.astype(jnp.float32)

    zeros = jnp.zeros_like(distance)
    carry = (zeros, zeros.astype(jnp.int32), zeros)
    total, positive_grad, negative_grad = lax.fori_loop(0, classes.largest, body, carry)
    # Classes are symmetric in rank: the pair (row, anchor) is the anchor's positive number rank[row].
    gradient = jnp.where(classes.same, positive_grad[classes.rank].astype(jnp.float32), -negative_grad)
    # Columns first: sums of 2^31 triplets keep their digits, and CPUs add columns fastest.
    number = jnp.sum(jnp.sum(negative_grad, 0))
    mean_of = jnp.maximum(number, 1.0)
    return (jnp.sum(jnp.sum(total, 0)) / mean_of, number), gradient / mean_of


_hinge_over_triplets = with_own_gradient(_hinge, "hinge_over_triplets")


def hinge_over_triplets(
    distance: Float[Array, "n n"], classes: Classes, margin: float | Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean over the non-zero triplets of relu(D_ap - D_an + margin), 0 if there are none, and their number.

    distance: (other row, anchor). Differentiable in it alone; ValueError where margin is differentiated.
    """
    return _hinge_over_triplets(distance, (classes, jnp.asarray(margin, jnp.float32)))


LARGEST = 1e28  # a sum of this over all triplets of 4096 rows is still a float32
FACTORS = 32  # of softplus are multiplied before a logarithm is taken; each is at most 2


def _softplus(logits, extra):
    """Mean over all triplets of weight * softplus(z_an - z_ap), number of z_an > z_ap; gradient of the mean.

    softplus(g) = max(g, 0) + log(1 + e^-|g|). The products of (1 + e^-|g|) over triplets of one weight are kept, less
    1, so that one logarithm serves up to 32 of them and small values keep their digits.
    """
    classes, gate, gate_weight = extra
    logits = jnp.clip(logits, -LARGEST, LARGEST)
    negatives = jnp.where(classes.different, logits, -jnp.inf)
    zeros = jnp.zeros_like(logits)
    weights = (1.0,) if gate is None else (1.0, gate_weight)

    def body(k, carry):
        linear, products, wrong, positive_grad, negative_grad = carry
        # An anchor without a k-th positive has gaps of -inf: nothing is added.
        gap = negatives - positives_of(logits, k, classes, jnp.inf)
        small = jnp.exp(-jnp.abs(gap))
        smalls, weight = (small,), 1.0
        if gate is not None:  # triplets of weight 1 and of gate_weight go into products of their own
            gated = gate > positives_of(gate, k, classes, jnp.inf)
            smalls = (jnp.where(gated, 0.0, small), jnp.where(gated, small, 0.0))
            weight = jnp.where(gated, gate_weight, 1.0)
        gradient = weight * jnp.where(gap > 0, 1.0, small) / (1.0 + small)
        linear += weight * jnp.maximum(gap, 0.0)
        products = tuple(product + small * (1.0 + product) for product, small in zip(products, smalls, strict=True))
        positive_grad = lax.dynamic_update_index_in_dim(positive_grad, jnp.sum(gradient, 0), k, 0)
        return linear, products, wrong + (gap > 0).astype(jnp.float32), positive_grad, negative_grad + gradient

    def chunk(i, carry):
        total, *counts = carry
        stop = jnp.minimum((i + 1) * FACTORS, classes.largest)
        linear, products, *counts = lax.fori_loop(i * FACTORS, stop, body, (zeros, (zeros,) * len(weights), *counts))
        logarithms = sum(weight * jnp.log1p(product) for weight, product in zip(weights, products, strict=True))
        return total + jnp.sum(linear + logarithms, 0), *counts

    chunks = (classes.largest + (FACTORS - 1)) // FACTORS
    total, wrong, positive_grad, negative_grad = lax.fori_loop(0, chunks, chunk, (zeros[0], zeros, zeros, zeros))
    gradient = jnp.where(classes.same, -positive_grad[classes.rank], negative_grad)
    mean_of = jnp.maximum(number_of_triplets(classes), 1.0)
    results = jnp.sum(total) / mean_of, jnp.sum(jnp.sum(wrong, 0))
    return results, gradient / mean_of


_softplus_over_triplets = with_own_gradient(_softplus, "softplus_over_triplets")


def softplus_over_triplets(
    logits: Float[Array, "n n"],
    classes: Classes,
    gate: Float[Array, "n n"] | None = None,
    gate_weight: float | Float[Array, ""] = 1.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean over all triplets of weight * softplus(z_an - z_ap), 0 if there are none, and the number of z_an > z_ap.

    logits: (other row, anchor), clipped to +-1e28 so that no sum overflows. Without `gate` every weight is 1; with it,
    triplets that it gets wrong (gate_an > gate_ap) weigh gate_weight. Differentiable in logits alone; ValueError where
    gate or gate_weight is differentiated.
    """
    return _softplus_over_triplets(logits, (classes, gate, jnp.asarray(gate_weight, jnp.float32)))
