"""Convolutions with kernels of 3x3 pixels in a quarter of the multiplications, for the CPU.

Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016, arXiv 1509.09308): tiles of 6x6 pixels, which overlap by two, become
36 numbers for each channel; products over the channels take the place of a convolution, and what comes out becomes
tiles of 4x4 pixels. The numbers are values of polynomials at 0, +-3/4, +-3/2 and infinity: that rounds half as much as
the usual points 0, +-1, +-2, and four times as much as a plain convolution. Neighbours in time are more channels.

The work goes in blocks that stay in the cache of a core: otherwise memory takes what the multiplications save.
All is computed in float32. Axes: n sequences, s frames, strips, h rows, w columns, c channels.
"""

import math
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

BLOCK_BYTES = 2**22  # of the 36 numbers a tile before and after the products, or, if that is more,
KERNELS_A_BLOCK = 2  # times those of the kernel, which every block fetches whole
FEWEST_CHANNELS = 32  # with fewer the transformations take more time than they save
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


def fits(kernel) -> bool:
    """Whether this is the quicker way for a kernel [time, height, width, c, out]."""
    return kernel.shape[1:3] == (3, 3) and min(kernel.shape[3:]) >= FEWEST_CHANNELS


def convolve(frames, kernel):
    """Frames [n, s, strips, h, w, c], kernel [time, 3, 3, c, out] -> [n, s, strips, h, w, out], zero padding.

    In the dtype of the frames.
    """
    shape, films = frames.shape[:-1], _films(frames, kernel)
    time, _, _, c, out = kernel.shape
    n, s, strips, h, w, _ = films.shape
    down, across = _tiles(h), _tiles(w)
    size = _block_size(films.shape, time, out)
    padded = _pad(films, time, (s, strips, down))
    kernel = jnp.einsum("ai,bj,tijco->batco", KERNEL, KERNEL, kernel, precision="highest").reshape(36, time * c, out)

    def add_block(at, result):
        tiles = _tiles_of_frames(padded, at, size, time, across)
        columns = jnp.einsum("ktc,kco->kto", tiles, kernel).reshape(6, 6, *size, across, out)
        rows = jnp.stack(_to_pixels(columns), axis=5).reshape(6, *size, 4 * across, out)
        rows = jax.lax.optimization_barrier(rows)  # or it would be worked out again for each of four rows
        pixels = jnp.stack(_to_pixels(rows), axis=3).reshape(1, *size[:2], 4 * size[2], 4 * across, out)
        return jax.lax.dynamic_update_slice(result, pixels[..., :w, :].astype(result.dtype), at)

    result = jax.lax.empty((n, s, strips, 4 * down, w, out), frames.dtype)
    return _over_blocks(add_block, result, (n, s, strips, down), size)[:, :, :, :h].reshape(*shape, out)


def kernel_gradient(frames, kernel, gradient):
    """That of the kernel, from the gradient of what `convolve` returns; in the dtype of the kernel."""
    films, slopes = _films(frames, kernel), _films(gradient, kernel)
    time, _, _, c, out = kernel.shape
    n, s, strips, h, w, _ = films.shape
    down, across = _tiles(h), _tiles(w)
    size = _block_size(films.shape, time, out)
    whole = [-(-count // block) * block for count, block in zip((s, strips, down), size, strict=True)]
    padded = _pad(films, time, whole)
    slopes = jnp.pad(slopes, [(0, 0), (0, whole[0] - s), (0, whole[1] - strips), (0, 4 * whole[2] - h), (0, 0), (0, 0)])

    def add_block(at, total):
        tiles = _tiles_of_frames(padded, at, size, time, across)
        pixels = jax.lax.dynamic_slice(slopes, at, (1, *size[:2], 4 * size[2], w, out))[0].astype(jnp.float32)
        pixels = jnp.pad(pixels, [*[(0, 0)] * 3, (0, 4 * across - w), (0, 0)])
        slope_tiles = _both_ways(_from_pixels, pixels, 4, size[2], across).reshape(36, -1, out)
        return total + jnp.einsum("ktc,kto->kco", tiles, slope_tiles)

    total = jnp.zeros((36, time * c, out), jnp.float32)
    total = _over_blocks(add_block, total, (n, *whole), size).reshape(6, 6, time, c, out)
    return jnp.einsum("ai,bj,batco->tijco", KERNEL, KERNEL, total, precision="highest").astype(kernel.dtype)


def _films(frames, kernel):
    """Where no neighbours in time are looked at, all images are the frames of one sequence."""
    return frames.reshape(1, -1, 1, *frames.shape[3:]) if kernel.shape[0] == 1 else frames


def _tiles(pixels: int) -> int:
    return -(-pixels // 4)


def _block_size(shape: tuple, time: int, out: int) -> tuple:
    """(frames, strips, rows of tiles) of a block: the fewest pixels that blocks share, then the largest block."""
    _, s, strips, h, w, c = shape
    down = _tiles(h)
    most = max(BLOCK_BYTES // (4 * 36), KERNELS_A_BLOCK * time * c * out)
    rows_of_tiles = most // ((time * c + out) * _tiles(w))

    def cost(size):
        frames, together, rows = size
        blocks = -(-s // frames) * -(-strips // together) * -(-down // rows)
        return blocks * (frames + time - 1) * together * (4 * rows + 2), -frames * together * rows

    sizes = product(*(range(1, min(count, rows_of_tiles) + 1) for count in (s, strips, down)))
    return min((size for size in sizes if math.prod(size) <= rows_of_tiles), key=cost, default=(1, 1, 1))


def _pad(films, time: int, counts: tuple):
    """With zeros around, up to so many frames, strips and rows of tiles, and whole tiles in width."""
    _, s, strips, h, w, _ = films.shape
    ends = time // 2 + counts[0] - s, counts[1] - strips, 4 * counts[2] - h + 1, 4 * _tiles(w) - w + 1
    return jnp.pad(films, [(0, 0), *zip((time // 2, 0, 1, 1), ends, strict=True), (0, 0)])


def _over_blocks(function, start, counts: tuple, size: tuple):
    """function(position, result) -> result for all blocks; the position is that of the first pixel.

    Slices of a last block that is not whole are moved back by jax.lax, and worked out twice.
    """
    grid = [counts[0], *(-(-count // block) for count, block in zip(counts[1:], size, strict=True))]

    def step(index, result):
        sequence, frame, strip, row = jnp.unravel_index(index, grid)
        return function((sequence, frame * size[0], strip * size[1], row * 4 * size[2], 0, 0), result)

    return jax.lax.fori_loop(0, math.prod(grid), step, start)


def _tiles_of_frames(padded, at: tuple, size: tuple, time: int, across: int):
    """A block as tiles: float32 [36, tiles, time c]."""
    frames, strips, rows = size
    c = padded.shape[-1]
    block = jax.lax.dynamic_slice(padded, at, (1, frames + time - 1, strips, 4 * rows + 2, 4 * across + 2, c))[0]
    tiles = _both_ways(_to_tiles, block.astype(jnp.float32), 6, rows, across).reshape(36, frames + time - 1, -1, c)
    return jnp.concatenate([tiles[:, t : t + frames] for t in range(time)], axis=-1).reshape(36, -1, time * c)


def _both_ways(transform, pixels, reach: int, rows: int, across: int):
    """Tiles of so many pixels a side, [s, strips, h, w, c] -> [6, 6, s, strips, rows, across, c]."""
    tiles = jnp.stack(transform(_every_fourth(pixels, 2, reach, rows)))
    return jnp.stack(transform(_every_fourth(tiles, 4, reach, across)))


def _every_fourth(x, axis: int, starts: int, count: int) -> list:
    """Along an axis: the values 0, 4, 8 ..., the values 1, 5, 9 ..., and so on."""
    return [jax.lax.slice_in_dim(x, i, i + 4 * count - 3, 4, axis) for i in range(starts)]


def _to_tiles(x: list) -> list:
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


def _to_pixels(x: list) -> list:
    """Six numbers -> four pixels."""
    near, far, near_odd, far_odd = x[1] + x[2], x[3] + x[4], P * (x[1] - x[2]), Q * (x[3] - x[4])
    return [x[0] + near + far, near_odd + far_odd, PP * near + QQ * far, PP * near_odd + QQ * far_odd + x[5]]


def _from_pixels(x: list) -> list:
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
