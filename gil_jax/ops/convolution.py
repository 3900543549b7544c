"""The one convolution of the project: frames with 2-D or 3-D kernels, strided or not, also within strips of the height.

GPU and TPU use XLA's own convolution. XLA's CPU backend is fast at one thing, the forward pass of a 2-D convolution:
its 3-D convolution takes twice the time, its gradient of a kernel five times. So on the CPU
- kernels of 3x3 pixels and enough channels go to `winograd`,
- strides and kernels of one pixel go to `taps`,
- all others, as in first layers, become forward passes in 2-D.

`config.model.convolution = "xla"` turns the CPU's ways off, for comparison while debugging: every convolution and its
gradients are XLA's then, on every device. The ways can be deleted (with winograd.py, taps.py and all of this file but
`convolve` and `_xla_convolve`) once that setting is as fast on a CPU, by
`python -m benchmarks.train_step` with and without `--convolution=xla`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gil_jax.ops import taps, winograd
from gil_jax.sharding import BY_ROWS, DATA, REPLICATED, data_devices, per_device

METHODS = ("auto", "xla")
GROUP_BYTES = 2**21  # of frames that are worked on at a time: they should stay in the cache of a core
_method = ContextVar("convolution", default="auto")


@contextmanager
def convolution_method(method: str) -> Iterator[None]:
    """Compute the convolutions traced in this context by "auto", the fastest way, or "xla", XLA's own everywhere."""
    token = _method.set(method)
    try:
        yield
    finally:
        _method.reset(token)


def convolve(
    frames: Float[Array | np.ndarray, "n s h w c"],
    kernel: Float[Array | np.ndarray, "*size c out"],
    *,
    strips: int = 1,
    stride: int = 1,
) -> Float[Array, "n s rows columns out"]:
    """Convolution without bias, zero-padded by half the size of the kernel on both sides of every axis.

    kernel: float32 [height, width, c, out] works on every frame alone; [time, height, width, c, out] also along the
    frames. Odd sizes. strips: the height is cut into equal strips, each padded and convolved alone with the same
    kernel. stride: of rows and columns, of which every stride-th remains, from the first on (rounded up); time is
    never strided. Returns the dtype of the frames, in which it is computed.
    """
    n, s, h, w, c = frames.shape
    kernel = jnp.asarray(kernel if kernel.ndim == 5 else kernel[None])
    films = jnp.asarray(frames).reshape(n, s, strips, h // strips, w, c)
    by_method: Any = _xla_convolve if _method.get() == "xla" else _convolve
    result = by_method(films, kernel, stride)
    return result.reshape(n, s, -1, *result.shape[4:])


def _in_two_dimensions(frames: Array, kernel: Array, stride: int) -> Array:
    """Frames [n, s, strips, h, w, c], kernel [height, width, c, out]: strips and frames are a batch of images."""
    images = jax.lax.conv_general_dilated(
        frames.reshape(-1, *frames.shape[3:]),
        kernel,
        (stride, stride),
        _padding(kernel.shape[:2]),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return images.reshape(*frames.shape[:3], *images.shape[1:])


def _padding(sizes: tuple) -> list:
    """Half the size on both sides; "SAME" would pad an even height by (0, 1) at stride 2."""
    return [(size // 2, size // 2) for size in sizes]


def _xla_convolve(frames: Array, kernel: Array, stride: int) -> Array:
    n, s, strips, h, w, c = frames.shape
    kernel = kernel.astype(frames.dtype)
    if kernel.shape[0] == 1:
        return _in_two_dimensions(frames, kernel[0], stride)
    films = frames.swapaxes(1, 2).reshape(n * strips, s, h, w, c)
    films = jax.lax.conv_general_dilated(
        films,
        kernel,
        (1, stride, stride),
        _padding(kernel.shape[:3]),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )
    return films.reshape(n, strips, *films.shape[1:]).swapaxes(1, 2)


def _time_as_channels(frames: Array, kernel: Array) -> Array:
    """Neighbours in time as more channels of a 2-D convolution: on the CPU twice as fast as XLA's 3-D one.

    They are laid out before the strips are cut, so that XLA does it once for all convolutions of the same frames.
    """
    time, height, width, c, out = kernel.shape
    n, s, strips, h, w, _ = frames.shape
    padded = jnp.pad(frames.reshape(n, s, strips * h, w, c), [(0, 0), (time // 2, time // 2), *[(0, 0)] * 3])
    neighbours = jnp.concatenate([padded[:, t : t + s] for t in range(time)], axis=-1)
    kernel = kernel.astype(frames.dtype).transpose(1, 2, 0, 3, 4).reshape(height, width, time * c, out)
    return _in_two_dimensions(neighbours.reshape(n, s, strips, h, w, time * c), kernel, 1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(frames: Array, kernel: Array, stride: int) -> Array:
    return jax.lax.platform_dependent(
        frames, kernel, cpu=partial(_cpu_convolve, stride=stride), default=partial(_xla_convolve, stride=stride)
    )


def _forward(frames: Array, kernel: Array, stride: int) -> tuple:
    return _convolve(frames, kernel, stride), (frames, kernel)


def _backward(stride: int, saved: tuple, gradient: Array) -> tuple:
    frames, kernel = saved
    frames_gradient = jax.lax.platform_dependent(
        frames,
        kernel,
        gradient,
        cpu=partial(_cpu_frames_gradient, stride=stride),
        default=lambda x, k, g: jax.vjp(lambda x: _xla_convolve(x, k, stride), x)[1](g)[0],
    )
    kernel_gradient = jax.lax.platform_dependent(
        frames,
        kernel,
        gradient,
        cpu=partial(_cpu_kernel_gradient, stride=stride),
        default=lambda x, k, g: jax.vjp(lambda k: _xla_convolve(x, k, stride), k)[1](g)[0],
    )
    return frames_gradient, kernel_gradient


_convolve.defvjp(_forward, _backward)


def _cpu_convolve(frames: Array, kernel: Array, stride: int) -> Array:
    if taps.fits(kernel, stride):
        return _on_each_device(partial(taps.convolve, stride=stride), frames, kernel)
    if winograd.fits(kernel):
        return _on_each_device(winograd.convolve, frames, kernel)
    return _time_as_channels(frames, kernel)


def _cpu_frames_gradient(frames: Array, kernel: Array, gradient: Array, stride: int) -> Array:
    if stride == 1:  # a convolution with the kernel turned around
        return _cpu_convolve(gradient, kernel[::-1, ::-1, ::-1].swapaxes(3, 4), 1)
    return _on_each_device(partial(taps.frames_gradient, stride=stride), frames, kernel, gradient)


def _cpu_kernel_gradient(frames: Array, kernel: Array, gradient: Array, stride: int) -> Array:
    if taps.fits(kernel, stride):
        function = partial(taps.kernel_gradient, stride=stride)
    else:
        function = winograd.kernel_gradient if winograd.fits(kernel) else _kernel_gradient_by_groups
    return _on_each_device(function, frames, kernel, gradient, summed=True)


def _on_each_device(function: Callable, frames: Array, kernel: Array, *gradient: Array, summed: bool = False) -> Array:
    """Let each device work on its own sequences where the batch is sharded.

    The result is sharded alike, or, summed over the devices, replicated.
    """
    devices = data_devices(frames)
    if devices == 1 or frames.shape[0] % devices:
        return function(frames, kernel, *gradient)

    def of_device(*arrays: Array) -> Array:
        own = function(*arrays)
        return jax.lax.psum(own, DATA) if summed else own

    shares = (BY_ROWS, REPLICATED, *(BY_ROWS for _ in gradient))
    return per_device(of_device, frames, shares, REPLICATED if summed else BY_ROWS)(frames, kernel, *gradient)


def _kernel_gradient_by_groups(frames: Array, kernel: Array, gradient: Array) -> Array:
    """Gradient with respect to a kernel of stride 1, as 2-D convolutions of groups of rows that fit the cache.

    It is a convolution of the frames, whose channels become its batch, with the gradient as its kernel; the sequences
    become its channels. Adds in float32.
    """
    time, height, width, _, out = kernel.shape
    if time == 1:  # strips are frames of their own
        frames, gradient = (x.reshape(x.shape[0], -1, 1, *x.shape[3:]) for x in (frames, gradient))
    n, s, strips, h, w, c = frames.shape
    bytes_of_row = 4 * n * time * w * c
    rows = taps.largest_divisor(h, GROUP_BYTES // bytes_of_row)
    images = taps.largest_divisor(s, GROUP_BYTES // (bytes_of_row * h)) if rows == h and time == 1 else 1
    neighbours = images + time - 1  # one of the two is 1: either several images, or the neighbours of one
    padded = jnp.pad(frames, [(0, 0), (time // 2, time // 2), (0, 0), (height // 2, height // 2), (0, 0), (0, 0)])

    def add_group(index: Array, total: Array) -> Array:
        image, strip, row = taps.position(index, (s // images, strips, h // rows))
        at = (0, image * images, strip, row * rows, 0, 0)
        block = jax.lax.dynamic_slice(
            padded, at, (n, neighbours, 1, rows + height - 1, w, c), allow_negative_indices=False
        )
        block_gradient = jax.lax.dynamic_slice(gradient, at, (n, images, 1, rows, w, out), allow_negative_indices=False)
        block = block.astype(jnp.float32).reshape(n, images, time, rows + height - 1, w, c)
        block_gradient = block_gradient.astype(jnp.float32).reshape(n, images, rows, w, out)
        return total + jax.lax.conv_general_dilated(
            block.transpose(2, 5, 3, 4, 0, 1).reshape(time * c, rows + height - 1, w, n * images),
            block_gradient.transpose(2, 3, 0, 1, 4).reshape(rows, w, n * images, out),
            (1, 1),
            [(0, 0), (width // 2, width // 2)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    start = jnp.zeros((time * c, height, width, out), jnp.float32)
    total = jax.lax.fori_loop(0, (s // images) * strips * (h // rows), add_group, start)
    return total.reshape(time, c, height, width, out).transpose(0, 2, 3, 1, 4).astype(kernel.dtype)
