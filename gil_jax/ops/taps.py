"""Convolutions as matrix products over the taps of a kernel, for the CPU: strides, and kernels of one pixel.

The pixels that the taps of a kernel meet stand side by side as channels, so that one matrix product does the work of
a convolution (im2col). XLA's CPU backend is slow at the gradients of strided convolutions, and Winograd's transforms
need a stride of 1. A block of frames is laid out at a time, which stays in the cache of a core.

All is computed in float32. Axes: n sequences, s frames, strips, h rows, w columns, c channels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

BLOCK_BYTES = 2**22  # of the taps of a block


def fits(kernel: Float[Array, "time height width c out"], stride: int) -> bool:
    """Whether this is the fastest way for a kernel."""
    return stride > 1 or kernel.shape[1:3] == (1, 1)


def convolve(
    frames: Float[Array, "n s strips h w c"], kernel: Float[Array, "time height width c out"], stride: int
) -> Float[Array, "n s strips rows columns out"]:
    """Convolve with zero padding; rows and columns are h and w over the stride, rounded up. In the frames' dtype."""
    films, time = fold_images(frames, kernel), kernel.shape[0]
    _, _, strips, h, w, _ = films.shape
    shape = strips, _strided(h, stride), _strided(w, stride), kernel.shape[-1]
    padded, weights = _pad_time(films, time), kernel.reshape(-1, kernel.shape[-1])
    size = _frames_of_block(films, kernel, stride)

    def add_block(at: tuple, result: Array) -> Array:
        taps = _taps(_slice(padded, at, size + time - 1), kernel.shape, stride)
        pixels = (taps @ weights).reshape(1, size, *shape)
        return jax.lax.dynamic_update_slice(result, pixels.astype(result.dtype), at, allow_negative_indices=False)

    result = jnp.full((*films.shape[:2], *shape), late_zero(frames), frames.dtype)
    return _over_blocks(add_block, result, films, size).reshape(*frames.shape[:3], *shape[1:])


def kernel_gradient(
    frames: Float[Array, "n s strips h w c"],
    kernel: Float[Array, "time height width c out"],
    gradient: Float[Array, "n s strips rows columns out"],
    stride: int,
) -> Float[Array, "time height width c out"]:
    """Gradient with respect to the kernel, from the gradient of the result of `convolve`."""
    films, gradients, time = fold_images(frames, kernel), fold_images(gradient, kernel), kernel.shape[0]
    padded, size = _pad_time(films, time, late_zero(gradient)), _frames_of_block(films, kernel, stride)

    def add_block(at: tuple, total: Array) -> Array:
        taps = _taps(_slice(padded, at, size + time - 1), kernel.shape, stride)
        return total + taps.T @ _slice(gradients, at, size).astype(jnp.float32).reshape(-1, kernel.shape[-1])

    total = jnp.full((kernel[..., 0].size, kernel.shape[-1]), late_zero(gradient))
    return _over_blocks(add_block, total, films, size).reshape(kernel.shape).astype(kernel.dtype)


def frames_gradient(
    frames: Float[Array, "n s strips h w c"],
    kernel: Float[Array, "time height width c out"],
    gradient: Float[Array, "n s strips rows columns out"],
    stride: int,
) -> Float[Array, "n s strips h w c"]:
    """Gradient with respect to the frames, from the gradient of the result of `convolve`.

    Pixels whose rows and whose columns leave the same remainders when divided by the stride meet the same taps: each
    of these phases is a convolution of the gradient with those taps, and together they make the picture.
    """
    films, time = fold_images(gradient, kernel), kernel.shape[0]
    height, width, c, out = kernel.shape[1:]
    _, _, strips, rows, columns, _ = films.shape
    h, w = frames.shape[3:5]
    padded, size = _pad_time(films, time), _frames_of_block(films, kernel, 1)

    def phase(block: Array, down: int, across: int) -> Array:
        shifts = [
            (t, (i, row), (j, column))
            for t in range(time)
            for i, row in _taps_of_phase(height, stride, down)
            for j, column in _taps_of_phase(width, stride, across)
        ]
        if not shifts:
            return jnp.zeros((size, strips, rows, columns, c), jnp.float32)
        pieces = [
            block[time - 1 - t :][:size, :, row : row + rows, column : column + columns]
            for t, (_, row), (_, column) in shifts
        ]
        weights = jnp.concatenate([kernel[t, i, j].T for t, (i, _), (j, _) in shifts])
        pixels = jnp.concatenate(pieces, axis=-1).reshape(-1, len(shifts) * out) @ weights
        return pixels.reshape(size, strips, rows, columns, c)

    def add_block(at: tuple, result: Array) -> Array:
        block = _pad_pixels(_slice(padded, at, size + time - 1), kernel.shape)
        phases = [jnp.stack([phase(block, down, j) for j in range(stride)], axis=4) for down in range(stride)]
        pixels = jnp.stack(phases, axis=3).reshape(1, size, strips, rows * stride, columns * stride, c)
        return jax.lax.dynamic_update_slice(
            result, pixels[:, :, :, :h, :w].astype(result.dtype), at, allow_negative_indices=False
        )

    result = jnp.full((*films.shape[:3], h, w, c), late_zero(gradient), frames.dtype)
    return _over_blocks(add_block, result, films, size).reshape(frames.shape)


def late_zero(x: Array) -> Float[Array, ""]:
    """Zero that XLA can't compute before x, whatever x holds.

    What begins with it is allocated and computed when x is there. XLA's CPU backend schedules what depends on constants
    and parameters alone at the start of the program, and shares equal arrays of the forward and the backward pass: both
    would take memory all through a training step.
    """
    return (x[(0,) * x.ndim] > jnp.inf).astype(jnp.float32)


def fold_images(frames: Array, kernel: Array) -> Array:
    """Fold sequences, frames and strips into one axis of frames for a kernel that looks at one frame at a time."""
    return frames.reshape(1, -1, 1, *frames.shape[3:]) if kernel.shape[0] == 1 else frames


def position(index: Array, counts: tuple | list) -> list:
    """Row-major position of an index that is not negative: jnp.unravel_index in a tenth of the operations.

    Every loop has one, so that it shows in the time to compile.
    """
    place: list = []
    for count in reversed(counts):
        place.insert(0, jax.lax.rem(index, jnp.int32(count)) if count > 1 else 0)
        index = jax.lax.div(index, jnp.int32(count)) if count > 1 else index
    return place


def _strided(pixels: int, stride: int) -> int:
    return -(-pixels // stride)


def _taps_of_phase(size: int, stride: int, remainder: int) -> list:
    """(tap, position in the padded gradient) of the taps that meet pixels of this remainder."""
    reached = [(tap, remainder + size // 2 - tap) for tap in range(size)]
    return [(tap, size // 2 + distance // stride) for tap, distance in reached if distance % stride == 0]


def _pad_time(films: Array, time: int, zero: ArrayLike = 0.0) -> Array:
    return jnp.pad(films, [(0, 0), (time // 2, time // 2), *[(0, 0)] * 4], constant_values=zero)


def _pad_pixels(block: Array, kernel_shape: tuple) -> Array:
    _, height, width, _, _ = kernel_shape
    return jnp.pad(block, [(0, 0), (0, 0), (height // 2,) * 2, (width // 2,) * 2, (0, 0)])


def _slice(films: Array, at: tuple, frames: int) -> Array:
    """Frames of one sequence, float32 [frames, strips, h, w, c]."""
    shape = (1, frames, *films.shape[2:])
    return jax.lax.dynamic_slice(films, at, shape, allow_negative_indices=False)[0].astype(jnp.float32)


def _taps(block: Array, kernel_shape: tuple, stride: int) -> Array:
    """The pixels that each tap meets, [pixels of the result, time height width c]."""
    time, height, width, c, _ = kernel_shape
    frames, (_, h, w, _) = len(block) - time + 1, block.shape[1:]
    block = _pad_pixels(block, kernel_shape)
    taps = [
        block[t : t + frames, :, i : i + h : stride, j : j + w : stride] for t, i, j in np.ndindex(*kernel_shape[:3])
    ]
    return jnp.concatenate(taps, axis=-1).reshape(-1, time * height * width * c)


def _frames_of_block(films: Array, kernel: Array, stride: int) -> int:
    """The most frames that divide those of a sequence and whose taps fit a block."""
    _, s, strips, h, w, c = films.shape
    bytes_of_frame = 4 * kernel[..., 0, 0].size * c * strips * _strided(h, stride) * _strided(w, stride)
    return largest_divisor(s, BLOCK_BYTES // bytes_of_frame)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`; at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(most, 1))


def _over_blocks(function: Callable, start: Array, films: Array, size: int) -> Array:
    """Apply function(position of the block, result) -> result to all blocks."""
    groups = films.shape[1] // size

    def step(index: Array, result: Array) -> Array:
        sequence, group = position(index, (films.shape[0], groups))
        return function((sequence, group * size, 0, 0, 0, 0), result)

    return jax.lax.fori_loop(0, films.shape[0] * groups, step, start)
