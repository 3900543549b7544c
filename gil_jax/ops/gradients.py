"""Functions that compute their gradient together with their value."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero


def with_own_gradient(compute: Callable, name: str) -> Callable:
    """Build a function of (x, extra) that is differentiable in x alone, from one that returns the gradient too.

    compute(x, extra) -> (value, statistics), gradient: value a float32 scalar or [p]; gradient of the sum of value,
    shaped like x [n, n] or [n, p, d]; extra and statistics any pytrees. Statistics carry no gradient.
    Raises ValueError, naming the function, where a gradient with respect to extra is asked for: a gradient of zero
    would leave a learnable parameter untrained without a word.
    """

    @jax.custom_vjp
    def function(x: Any, extra: Any) -> Any:
        return compute(x, extra)[0]

    def forward(x, extra):
        if any(leaf.perturbed and jnp.issubdtype(leaf.value.dtype, jnp.inexact) for leaf in jax.tree.leaves(extra)):
            raise ValueError(
                f"{name} has a gradient with respect to the embeddings alone, but is differentiated with respect to "
                "another argument: wrap that in jax.lax.stop_gradient, or write the loss in plain jnp"
            )
        return compute(x.value, jax.tree.map(lambda leaf: leaf.value, extra))

    def backward(gradient, cotangents):
        by_value = cotangents[0]
        if isinstance(by_value, SymbolicZero):
            return jnp.zeros_like(gradient), None
        return gradient * jnp.expand_dims(by_value, -1), None

    function.defvjp(forward, backward, symbolic_zeros=True)
    return function
