"""Sums over all triplets (anchor, positive, negative) of a matrix, exactly, without ever building the triplets.

An anchor's positives are taken one at a time, against all rows at once: time n^2 K for classes of up to K rows, memory
n^2. Value and slope come from the same pass. K is known only when the program runs, so the pass is a while loop, which
has no derivative in jax: each sum brings its own. Sums are kept [n, n] and added up last: on a CPU, a few passes over a
matrix in the cache are faster than anything that sorts.
"""

import jax
import jax.numpy as jnp
from jax import lax

from gil_jax.ops.pairs import Classes, positives_of


def _hinge_pass(distance, classes: Classes, margin):
    """Totals of the hinge and of its slope: (sum, number of non-zero triplets, slope of the sum [n, n])."""
    negatives = jnp.where(classes.different, distance, jnp.inf)

    def body(k, carry):
        total, pulls, pushes = carry
        reach = positives_of(distance, k, classes, -jnp.inf) + margin
        inside = reach > negatives
        pulls = lax.dynamic_update_index_in_dim(pulls, jnp.sum(inside, 0, dtype=jnp.int32), k, 0)
        return total + jnp.maximum(reach - negatives, 0.0), pulls, pushes + inside.astype(jnp.float32)

    zeros = jnp.zeros_like(distance)
    total, pulls, pushes = lax.fori_loop(0, classes.largest, body, (zeros, zeros.astype(jnp.int32), zeros))
    slope = jnp.where(classes.same, pulls[classes.rank].astype(jnp.float32), -pushes)
    return jnp.sum(jnp.sum(total, 0)), jnp.sum(jnp.sum(pushes, 0)), slope


@jax.custom_vjp
def hinge_over_triplets(distance, classes: Classes, margin):
    """Mean over the non-zero triplets of relu(D_ap - D_an + margin), 0 if there are none.

    distance: float32 [n, n] (other row, anchor); margin: float32. Returns (mean, number of non-zero triplets), float32.
    """
    return _hinge_forward(distance, classes, margin)[0]


def _hinge_forward(distance, classes, margin):
    total, number, slope = _hinge_pass(distance, classes, margin)
    mean_of = jnp.maximum(number, 1.0)
    return (total / mean_of, number), slope / mean_of


def _hinge_backward(slope, cotangents):
    return slope * cotangents[0], None, None


hinge_over_triplets.defvjp(_hinge_forward, _hinge_backward)


def number_of_triplets(classes: Classes):
    """float32: all (anchor, positive, negative), an anchor counting as its own positive."""
    return jnp.sum(classes.size.astype(jnp.float32) * jnp.sum(classes.different, 0, dtype=jnp.float32))


LARGEST = 1e28  # a sum of this over all triplets of 4096 rows is still a float32
FACTORS = 32  # of softplus are multiplied before a logarithm is taken; each is at most 2


def _softplus_pass(logits, classes: Classes, judge, doubt):
    """Sum over all triplets of weight * softplus(z_an - z_ap), how many have z_an > z_ap, and the slope of the sum.

    softplus(g) = max(g, 0) + log(1 + e^-|g|). The products of (1 + e^-|g|) over triplets of one weight are kept, less
    1, so that one logarithm serves them all and small values keep their digits.
    """
    logits = jnp.clip(logits, -LARGEST, LARGEST)
    negatives = jnp.where(classes.different, logits, -jnp.inf)
    zeros = jnp.zeros_like(logits)
    weights = (1.0,) if judge is None else (1.0, doubt)

    def body(k, carry):
        linear, products, wrong, pulls, pushes = carry
        gap = negatives - positives_of(logits, k, classes, jnp.inf)
        small = jnp.exp(-jnp.abs(gap))
        smalls, weight = (small,), 1.0
        if judge is not None:
            doubted = judge > positives_of(judge, k, classes, jnp.inf)
            smalls, weight = (
                (jnp.where(doubted, 0.0, small), jnp.where(doubted, small, 0.0)),
                jnp.where(doubted, doubt, 1.0),
            )
        slope = weight * jnp.where(gap > 0, 1.0, small) / (1.0 + small)
        linear += weight * jnp.maximum(gap, 0.0)
        products = tuple(product + small * (1.0 + product) for product, small in zip(products, smalls, strict=True))
        pulls = lax.dynamic_update_index_in_dim(pulls, jnp.sum(slope, 0), k, 0)
        return linear, products, wrong + (gap > 0).astype(jnp.float32), pulls, pushes + slope

    def chunk(i, carry):
        total, *counts = carry
        stop = jnp.minimum((i + 1) * FACTORS, classes.largest)
        linear, products, *counts = lax.fori_loop(i * FACTORS, stop, body, (zeros, (zeros,) * len(weights), *counts))
        logarithms = sum(weight * jnp.log1p(product) for weight, product in zip(weights, products, strict=True))
        return total + jnp.sum(linear + logarithms, 0), *counts

    chunks = (classes.largest + (FACTORS - 1)) // FACTORS
    total, wrong, pulls, pushes = lax.fori_loop(0, chunks, chunk, (zeros[0], zeros, zeros, zeros))
    slope = jnp.where(classes.same, -pulls[classes.rank], pushes)
    return jnp.sum(total), jnp.sum(jnp.sum(wrong, 0)), slope


@jax.custom_vjp
def softplus_over_triplets(logits, classes: Classes, judge=None, doubt=None):
    """Mean over all triplets of weight * softplus(z_an - z_ap), 0 if there are none.

    logits: float32 [n, n] (other row, anchor), cut to +-1e28 so that no sum overflows. Without `judge` every weight is
    1; with it, float32 [n, n], triplets that it gets wrong (judge_an > judge_ap) weigh `doubt`, float32.
    Returns (mean, number of triplets with z_an > z_ap), float32.
    """
    return _softplus_forward(logits, classes, judge, doubt)[0]


def _softplus_forward(logits, classes, judge, doubt):
    total, wrong, slope = _softplus_pass(logits, classes, judge, doubt)
    mean_of = jnp.maximum(number_of_triplets(classes), 1.0)
    return (total / mean_of, wrong), slope / mean_of


def _softplus_backward(slope, cotangents):
    return slope * cotangents[0], None, None, None


softplus_over_triplets.defvjp(_softplus_forward, _softplus_backward)
