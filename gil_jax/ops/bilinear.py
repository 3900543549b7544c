"""Pictures read between their pixels."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def pixel_grid(height: int, width: int) -> tuple[Float[Array, "1 w"], Float[Array, "h 1"]]:
    """Columns and rows of all pixels."""
    return jnp.arange(width, dtype=jnp.float32)[None], jnp.arange(height, dtype=jnp.float32)[:, None]


def sample_bilinear(
    frames: Float[Array, "s h w"], x: Float[Array, "h w"], y: Float[Array, "h w"]
) -> Float[Array, "s h w"]:
    """Read all frames at the points (x, y), bilinear, zero outside."""
    s, height, width = frames.shape
    left, top = jnp.floor(x), jnp.floor(y)
    pixels = frames.reshape(s, -1)
    result = jnp.zeros_like(frames)
    for below, right in np.ndindex(2, 2):
        column, row = left + right, top + below
        weight = (1 - jnp.abs(x - column)) * (1 - jnp.abs(y - row))
        is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        index = jnp.where(is_inside, row * width + column, 0).astype(jnp.int32)
        result += pixels[:, index] * jnp.where(is_inside, weight, 0.0)
    return result
