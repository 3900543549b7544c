"""Sums over all triplets (anchor, positive, negative) of a matrix, exactly, without ever building the triplets.

An anchor's positives are taken one at a time, against all its negatives at once: time n^2 K for classes of up to K
rows, memory n^2. Value and slope come from the same pass. K is known only when the program runs, so the pass is a while
loop, which has no derivative in jax: each sum brings its own.
"""

import jax
import jax.numpy as jnp
from jax import lax

from gil_jax.losses.pairs import Classes, positives_of


def _over_positives(body, carry, classes: Classes):
    """carry = body(k, carry) for k below the size of the largest class."""
    more = lambda state: state[0] < classes.largest  # noqa: E731
    return lax.while_loop(more, lambda state: (state[0] + 1, body(*state)), (jnp.int32(0), carry))[1]


def _hinge_pass(distance, classes: Classes, margin):
    """Totals of the hinge and of its slope: (sum, number of non-zero triplets, slope of the sum [n, n])."""
    n = len(distance)
    negatives = jnp.where(classes.different, distance, jnp.inf)

    def body(k, carry):
        total, pulls, pushes = carry
        gap = positives_of(distance, k, classes, -jnp.inf) + margin - negatives
        active = (gap > 0).astype(jnp.float32)
        total += jnp.sum(jnp.maximum(gap, 0.0), 0)
        return total, lax.dynamic_update_index_in_dim(pulls, jnp.sum(active, 0), k, 0), pushes + active

    zeros = jnp.zeros((n, n), jnp.float32)
    total, pulls, pushes = _over_positives(body, (zeros[0], zeros, zeros), classes)
    slope = jnp.where(classes.same, pulls[classes.rank], -pushes)
    return jnp.sum(total), jnp.sum(pulls), slope


@jax.custom_vjp
def hinge_over_triplets(distance, classes: Classes, margin):
    """Mean over the non-zero triplets of relu(D_ap - D_an + margin), 0 if there are none.

    distance: float32 [n, n] (other row, anchor); margin: float32. Returns (mean, number of non-zero triplets), float32.
    """
    total, number, _ = _hinge_pass(distance, classes, margin)
    return total / jnp.maximum(number, 1.0), number


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


def _softplus_pass(logits, classes: Classes, judge, doubt):
    """Sum over all triplets of weight * softplus(z_an - z_ap), how many have z_an > z_ap, and the slope of the sum."""
    n = len(logits)
    logits = jnp.clip(logits, -LARGEST, LARGEST)
    negatives = jnp.where(classes.different, logits, -jnp.inf)

    def body(k, carry):
        total, wrong, pulls, pushes = carry
        gap = negatives - positives_of(logits, k, classes, jnp.inf)
        small = jnp.exp(-jnp.abs(gap))
        value = jnp.maximum(gap, 0.0) + jnp.log1p(small)
        slope = jnp.where(gap > 0, 1.0, small) / (1.0 + small)
        if judge is not None:
            weight = jnp.where(judge > positives_of(judge, k, classes, jnp.inf), doubt, 1.0)
            value, slope = value * weight, slope * weight
        total += jnp.sum(value, 0)
        wrong += jnp.sum((gap > 0).astype(jnp.float32), 0)
        return total, wrong, lax.dynamic_update_index_in_dim(pulls, jnp.sum(slope, 0), k, 0), pushes + slope

    zeros = jnp.zeros((n, n), jnp.float32)
    total, wrong, pulls, pushes = _over_positives(body, (zeros[0], zeros[0], zeros, zeros), classes)
    return jnp.sum(total), jnp.sum(wrong), jnp.where(classes.same, -pulls[classes.rank], pushes)


@jax.custom_vjp
def softplus_over_triplets(logits, classes: Classes, judge=None, doubt=None):
    """Mean over all triplets of weight * softplus(z_an - z_ap), 0 if there are none.

    logits: float32 [n, n] (other row, anchor), cut to +-1e28 so that no sum overflows. Without `judge` every weight is
    1; with it, float32 [n, n], triplets that it gets wrong (judge_an > judge_ap) weigh `doubt`, float32.
    Returns (mean, number of triplets with z_an > z_ap), float32.
    """
    total, wrong, _ = _softplus_pass(logits, classes, judge, doubt)
    return total / jnp.maximum(number_of_triplets(classes), 1.0), wrong


def _softplus_forward(logits, classes, judge, doubt):
    total, wrong, slope = _softplus_pass(logits, classes, judge, doubt)
    mean_of = jnp.maximum(number_of_triplets(classes), 1.0)
    return (total / mean_of, wrong), slope / mean_of


def _softplus_backward(slope, cotangents):
    return slope * cotangents[0], None, None, None


softplus_over_triplets.defvjp(_softplus_forward, _softplus_backward)
