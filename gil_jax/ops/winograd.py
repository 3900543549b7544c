"""Convolutions with kernels of 3x3 pixels and stride 1 in a quarter of the multiplications, for the CPU.

Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016, arXiv 1509.09308): overlapping tiles of 6x6 pixels become 36 numbers
for each channel, matrix products over the channels replace the convolution, and their results become tiles of 4x4
pixels. The numbers are values of polynomials at 0, +-3/4, +-3/2 and infinity: that rounds half as much as the usual
points 0, +-1, +-2, and four times as much as a plain convolution. Neighbours in time are more channels.

The work is done in blocks that stay in the cache of a core: otherwise the traffic to memory costs what the
multiplications save. All is computed in float32. Axes: n sequences, s frames, strips, h rows, w columns, c channels.
When this file can be deleted: see convolution.py.
"""

import math
from collections.abc import Callable
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gil_jax.ops.taps import fold_images, late_zero, position

BLOCK_BYTES = 2**22  # of the 36 numbers of every tile before and after the products, or, if that is more,
KERNELS_A_BLOCK = 2  # times the 36 numbers of the kernel, which every block reads completely
FEWEST_CHANNELS = 32  # with fewer the transforms take more time than they save
P, Q = 3 / 4, 3 / 2  # the values are taken at 0, P, -P, Q, -Q and infinity
PP, QQ = P * P, Q * Q
NEAR, FAR = 2 * PP * (PP - QQ), 2 * QQ * (QQ - PP)
KERNEL = np.array(
    [
        [1 / (PP * QQ), 0, 0],
        *([1 / norm, at / norm, at * at / norm] for at, norm in ((P, NEAR), (-P, NEAR), (Q, FAR), (-Q, FAR))),
        [0, 0, 1],
    ],
    np.float32,
)  # three weights -> six numbers


def fits(kernel: Float[Array, "time height width c out"]) -> bool:
    """Whether this is the fastest way for a kernel of stride 1."""
    return kernel.shape[1:3] == (3, 3) and min(kernel.shape[3:]) >= FEWEST_CHANNELS


def convolve(
    frames: Float[Array, "n s strips h w c"], kernel: Float[Array, "time 3 3 c out"]
) -> Float[Array, "n s strips h w out"]:
    """Convolve with zero padding, in the dtype of the frames."""
    shape, films = frames.shape[:-1], fold_images(frames, kernel)
    time, _, _, c, out = kernel.shape
    n, s, strips, h, w, _ = films.shape
    down, across = _tiles(h), _tiles(w)
    size = _block_size(films.shape, time, out)
    padded = _pad(films, time, (s, strips, down))
    kernel, zero = jnp.asarray(kernel), late_zero(frames)
    kernel = jnp.einsum("ai,bj,tijco->batco", KERNEL, KERNEL, kernel + zero, precision="highest")
    kernel = kernel.reshape(36, time * c, out)

    def add_block(at: tuple, result: Array) -> Array:
        tiles = _tiles_of_frames(padded, at, size, time, across)
        columns = jnp.einsum("ktc,kco->kto", tiles, kernel).reshape(6, 6, *size, across, out)
        rows = jnp.stack(_to_pixels(columns), axis=5).reshape(6, *size, 4 * across, out)
        rows = jax.lax.optimization_barrier(rows)  # XLA would compute it again for each of four rows
        pixels = jnp.stack(_to_pixels(rows), axis=3).reshape(1, *size[:2], 4 * size[2], 4 * across, out)
        return jax.lax.dynamic_update_slice(
            result, pixels[..., :w, :].astype(result.dtype), at, allow_negative_indices=False
        )

    result = jnp.full((n, s, strips, 4 * down, w, out), zero, frames.dtype)
    return _over_blocks(add_block, result, (n, s, strips, down), size)[:, :, :, :h].reshape(*shape, out)


def kernel_gradient(
    frames: Float[Array, "n s strips h w c"],
    kernel: Float[Array, "time 3 3 c out"],
    gradient: Float[Array, "n s strips h w out"],
) -> Float[Array, "time 3 3 c out"]:
    """Gradient of `convolve` with respect to its kernel, from the gradient of its result; in the kernel's dtype."""
    films, gradients = fold_images(frames, kernel), fold_images(gradient, kernel)
    time, _, _, c, out = kernel.shape
    n, s, strips, h, w, _ = films.shape
    down, across = _tiles(h), _tiles(w)
    size = _block_size(films.shape, time, out)
    whole = [-(-count // block) * block for count, block in zip((s, strips, down), size, strict=True)]
    zero = late_zero(gradient)
    padded = _pad(films, time, whole, zero)
    ends = whole[0] - s, whole[1] - strips, 4 * whole[2] - h
    gradients = jnp.pad(gradients, [(0, 0), *((0, end) for end in ends), (0, 0), (0, 0)])

    def add_block(at: tuple, total: Array) -> Array:
        tiles = _tiles_of_frames(padded, at, size, time, across)
        pixels = _slice(gradients, at, (*size[:2], 4 * size[2], w, out))
        pixels = jnp.pad(pixels, [*[(0, 0)] * 3, (0, 4 * across - w), (0, 0)])
        gradient_tiles = _both_ways(_from_pixels, pixels, 4, size[2], across).reshape(36, -1, out)
        return total + jnp.einsum("ktc,kto->kco", tiles, gradient_tiles)

    total = jnp.full((36, time * c, out), zero)
    total = _over_blocks(add_block, total, (n, *whole), size).reshape(6, 6, time, c, out)
    return jnp.einsum("ai,bj,batco->tijco", KERNEL, KERNEL, total, precision="highest").astype(kernel.dtype)


def _tiles(pixels: int) -> int:
    return -(-pixels // 4)


def _block_size(shape: tuple, time: int, out: int) -> tuple:
    """(frames, strips, rows of tiles) of a block: the fewest pixels that blocks share, then the largest block."""
    _, s, strips, h, w, c = shape
    down = _tiles(h)
    most = max(BLOCK_BYTES // (4 * 36), KERNELS_A_BLOCK * time * c * out)
    rows_of_tiles = most // ((time * c + out) * _tiles(w))

    def cost(size: tuple) -> tuple:
        frames, together, rows = size
        blocks = -(-s // frames) * -(-strips // together) * -(-down // rows)
        return blocks * (frames + time - 1) * together * (4 * rows + 2), -frames * together * rows

    sizes = product(*(range(1, min(count, rows_of_tiles) + 1) for count in (s, strips, down)))
    return min((size for size in sizes if math.prod(size) <= rows_of_tiles), key=cost, default=(1, 1, 1))


def _pad(films: Array, time: int, counts: tuple | list, zero: ArrayLike = 0.0) -> Array:
    """Pad with zeros around, to `counts` frames, strips and rows of tiles, and to complete tiles in width."""
    _, s, strips, h, w, _ = films.shape
    ends = time // 2 + counts[0] - s, counts[1] - strips, 4 * counts[2] - h + 1, 4 * _tiles(w) - w + 1
    return jnp.pad(films, [(0, 0), *zip((time // 2, 0, 1, 1), ends, strict=True), (0, 0)], constant_values=zero)


def _over_blocks(function: Callable, start: Array, counts: tuple, size: tuple) -> Array:
    """Apply function(position of the first pixel, result) -> result to all blocks.

    jax.lax moves the slices of an incomplete last block back, so that their pixels are computed twice.
    """
    grid = [counts[0], *(-(-count // block) for count, block in zip(counts[1:], size, strict=True))]

    def step(index: Array, result: Array) -> Array:
        sequence, frame, strip, row = position(index, grid)
        return function((sequence, frame * size[0], strip * size[1], row * 4 * size[2], 0, 0), result)

    return jax.lax.fori_loop(0, math.prod(grid), step, start)


def _tiles_of_frames(padded: Array, at: tuple, size: tuple, time: int, across: int) -> Array:
    """A block as tiles: float32 [36, tiles, time c]."""
    frames, strips, rows = size
    c = padded.shape[-1]
    block = _slice(padded, at, (frames + time - 1, strips, 4 * rows + 2, 4 * across + 2, c))
    tiles = _both_ways(_to_tiles, block, 6, rows, across).reshape(36, frames + time - 1, -1, c)
    return jnp.concatenate([tiles[:, t : t + frames] for t in range(time)], axis=-1).reshape(36, -1, time * c)


def _slice(films: Array, at: tuple, shape: tuple) -> Array:
    """A block of one sequence, float32 of a shape."""
    return jax.lax.dynamic_slice(films, at, (1, *shape), allow_negative_indices=False)[0].astype(jnp.float32)


def _both_ways(transform: Callable, pixels: Array, reach: int, rows: int, across: int) -> Array:
    """Transform tiles of `reach` pixels a side, [s, strips, h, w, c] -> [6, 6, s, strips, rows, across, c]."""
    tiles = jnp.stack(transform(_every_fourth(pixels, 2, reach, rows)))
    return jnp.stack(transform(_every_fourth(tiles, 4, reach, across)))


def _every_fourth(x: Array, axis: int, starts: int, count: int) -> list[Array]:
    """Split an axis into the values 0, 4, 8 ..., the values 1, 5, 9 ..., and so on."""
    return [jax.lax.slice_in_dim(x, i, i + 4 * count - 3, 4, axis) for i in range(starts)]


def _to_tiles(x: Array | list[Array]) -> list[Array]:
    """Six pixels -> six numbers."""
    near, far = P * (x[3] - QQ * x[1]), Q * (x[3] - PP * x[1])
    return [
        PP * QQ * x[0] - (PP + QQ) * x[2] + x[4],
        x[4] - QQ * x[2] + near,
        x[4] - QQ * x[2] - near,
        x[4] - PP * x[2] + far,
        x[4] - PP * x[2] - far,
        PP * QQ * x[1] - (PP + QQ) * x[3] + x[5],
    ]


def _to_pixels(x: Array | list[Array]) -> list[Array]:
    """Six numbers -> four pixels."""
    near, far, near_odd, far_odd = x[1] + x[2], x[3] + x[4], P * (x[1] - x[2]), Q * (x[3] - x[4])
    return [x[0] + near + far, near_odd + far_odd, PP * near + QQ * far, PP * near_odd + QQ * far_odd + x[5]]


def _from_pixels(x: Array | list[Array]) -> list[Array]:
    """The transpose of `_to_pixels`."""
    near, far = P * x[1] + P * PP * x[3], Q * x[1] + Q * QQ * x[3]
    return [
        x[0],
        x[0] + PP * x[2] + near,
        x[0] + PP * x[2] - near,
        x[0] + QQ * x[2] + far,
        x[0] + QQ * x[2] - far,
        x[3],
    ]
