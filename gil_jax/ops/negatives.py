"""Mean over pairs (anchor, positive) of a softmax cross entropy with all negatives of the anchor."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gil_jax.ops.gradients import with_own_gradient
from gil_jax.ops.pairs import Classes
from gil_jax.ops.triplets import LARGEST


def _softmax(logits, classes: Classes):
    """Mean of softplus(logsumexp_n(z_an) - z_ap) and number of pairs with max_n z_an > z_ap; gradient of the mean.

    By hand, since JAX's own gradient would take every exponential a second time.
    """
    logits = jnp.clip(logits, -LARGEST, LARGEST)
    has_negatives = jnp.any(classes.different, 0)
    nearest = jnp.max(jnp.where(classes.different, logits, -jnp.inf), 0)
    largest = jnp.where(has_negatives, nearest, 0.0)
    shares = jnp.where(classes.different, jnp.exp(logits - largest), 0.0)
    total = jnp.where(has_negatives, jnp.sum(shares, 0), 1.0)
    gap = largest + jnp.log(total) - logits
    chosen = classes.same & has_negatives
    small = jnp.exp(-jnp.abs(gap))
    value = jnp.sum(jnp.sum(jnp.where(chosen, jnp.maximum(gap, 0.0) + jnp.log1p(small), 0.0), 0))
    by_positive = jnp.where(chosen, jnp.where(gap > 0, 1.0, small) / (1.0 + small), 0.0)
    # An anchor's negatives share what its positives get, as the softmax shares it.
    gradient = shares * (jnp.sum(by_positive, 0) / total) - by_positive
    wrong = jnp.sum(jnp.where(chosen, nearest > logits, False), dtype=jnp.float32)
    mean_of = jnp.maximum(jnp.sum(chosen, dtype=jnp.float32), 1.0)
    return (value / mean_of, wrong / mean_of), gradient / mean_of


_softmax_over_negatives = with_own_gradient(_softmax, "softmax_over_negatives")


def softmax_over_negatives(logits: Float[Array, "n n"], classes: Classes) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean over pairs of -log(e^z_ap / (e^z_ap + sum_n e^z_an)), 0 without negatives, and the share of wrong pairs.

    logits: (other row, anchor), clipped to +-1e28 so that no sum overflows; an anchor is its own positive. A pair is
    wrong where a negative has z_an > z_ap. Time and memory n^2.
    """
    return _softmax_over_negatives(logits, classes)
