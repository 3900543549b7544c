"""The one convolution of the project: frames with 2-D or 3-D kernels, whole or cut into strips of the height.

GPU and TPU take XLA's own way. On the CPU kernels of 3x3 pixels take that of `winograd`. For the others, as in first
layers, XLA is quick at one thing there, the forward pass of a 2-D convolution: its 3-D convolution takes twice the
time, its gradient of a kernel five times. So everything becomes forward passes in 2-D.
"""

from functools import partial

import jax
import jax.numpy as jnp

from gil_jax.ops import winograd
from gil_jax.sharding import BY_ROWS, DATA, REPLICATED, data_devices, per_device

GROUP_BYTES = 2**21  # of frames that are worked on at a time: they should stay in the cache of a core


def convolve(frames, kernel, *, strips: int = 1):
    """Convolution without bias, stride 1 and zero padding to the same size.

    frames: [n, s, h, w, c]. kernel: float32 [height, width, c, out] works on every frame alone; [time, height, width,
    c, out] also along the frames. Odd sizes. strips: the height is cut into so many strips, each padded and convolved
    alone with the same kernel. Returns [n, s, h, w, out] in the dtype of the frames, in which it is computed.
    """
    n, s, h, w, c = frames.shape
    kernel = kernel if kernel.ndim == 5 else kernel[None]
    return _convolve(frames.reshape(n, s, strips, h // strips, w, c), kernel).reshape(n, s, h, w, -1)


def _in_two_dimensions(frames, kernel):
    """Frames [n, s, strips, h, w, c], kernel [height, width, c, out]: strips and frames are a batch of images."""
    images = jax.lax.conv_general_dilated(
        frames.reshape(-1, *frames.shape[3:]), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return images.reshape(*frames.shape[:-1], -1)


def _xla_convolve(frames, kernel):
    n, s, strips, h, w, c = frames.shape
    kernel = kernel.astype(frames.dtype)
    if kernel.shape[0] == 1:
        return _in_two_dimensions(frames, kernel[0])
    films = frames.swapaxes(1, 2).reshape(n * strips, s, h, w, c)
    films = jax.lax.conv_general_dilated(
        films, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    return films.reshape(n, strips, s, h, w, -1).swapaxes(1, 2)


def _taps_as_channels(frames, kernel):
    """The neighbours in time as more channels of a 2-D convolution: on the CPU twice as fast as XLA's 3-D one.

    They are laid out before the strips are cut, so that XLA does it once for all convolutions of the same frames.
    """
    time, height, width, c, out = kernel.shape
    n, s, strips, h, w, _ = frames.shape
    padded = jnp.pad(frames.reshape(n, s, strips * h, w, c), [(0, 0), (time // 2, time // 2), *[(0, 0)] * 3])
    taps = jnp.concatenate([padded[:, t : t + s] for t in range(time)], axis=-1)
    kernel = kernel.astype(frames.dtype).transpose(1, 2, 0, 3, 4).reshape(height, width, time * c, out)
    return _in_two_dimensions(taps.reshape(n, s, strips, h, w, time * c), kernel)


@jax.custom_vjp
def _convolve(frames, kernel):
    return jax.lax.platform_dependent(frames, kernel, cpu=_cpu_convolve, default=_xla_convolve)


def _forward(frames, kernel):
    return _convolve(frames, kernel), (frames, kernel)


def _backward(saved, gradient):
    frames, kernel = saved
    frames_gradient = jax.lax.platform_dependent(
        frames,
        kernel,
        gradient,
        cpu=lambda x, k, g: _cpu_convolve(g, k[::-1, ::-1, ::-1].swapaxes(3, 4)),
        default=lambda x, k, g: jax.vjp(lambda x: _xla_convolve(x, k), x)[1](g)[0],
    )
    kernel_gradient = jax.lax.platform_dependent(
        frames,
        kernel,
        gradient,
        cpu=_cpu_kernel_gradient,
        default=lambda x, k, g: jax.vjp(partial(_xla_convolve, x), k)[1](g)[0],
    )
    return frames_gradient, kernel_gradient


_convolve.defvjp(_forward, _backward)


def _cpu_convolve(frames, kernel):
    if not winograd.fits(kernel):
        return _taps_as_channels(frames, kernel)
    return _on_each_device(winograd.convolve, BY_ROWS, frames, kernel)


def _cpu_kernel_gradient(frames, kernel, gradient):
    function = winograd.kernel_gradient if winograd.fits(kernel) else _kernel_gradient_by_groups
    return _on_each_device(function, REPLICATED, frames, kernel, gradient)


def _on_each_device(function, result, frames, kernel, *gradient):
    """Where the sequences are cut over devices, each works through its own; a whole result is their sum."""
    devices = data_devices(frames)
    if devices == 1 or frames.shape[0] % devices:
        return function(frames, kernel, *gradient)

    def of_device(*arrays):
        own = function(*arrays)
        return own if result == BY_ROWS else jax.lax.psum(own, DATA)

    shares = (BY_ROWS, REPLICATED, *(BY_ROWS for _ in gradient))
    on_devices = per_device(of_device, frames, shares, result)
    return on_devices(frames, kernel, *gradient)


def _kernel_gradient_by_groups(frames, kernel, gradient):
    """The gradient of a kernel is a convolution too: of the frames, whose channels are its batch, with the gradient as
    its kernel; the sequences are its channels. XLA is quick at it where a group of rows at a time fits the cache.

    Adds in float32.
    """
    time, height, width, _, out = kernel.shape
    if time == 1:  # strips are frames of their own
        frames, gradient = (x.reshape(x.shape[0], -1, 1, *x.shape[3:]) for x in (frames, gradient))
    n, s, strips, h, w, c = frames.shape
    bytes_of_row = 4 * n * time * w * c
    rows = _divisor(h, GROUP_BYTES // bytes_of_row)
    images = _divisor(s, GROUP_BYTES // (bytes_of_row * h)) if rows == h and time == 1 else 1
    taps = images + time - 1  # one of the two is 1: either several images, or the neighbours of one
    padded = jnp.pad(frames, [(0, 0), (time // 2, time // 2), (0, 0), (height // 2, height // 2), (0, 0), (0, 0)])

    def add_group(index, total):
        image, strip, row = jnp.unravel_index(index, (s // images, strips, h // rows))
        at = (0, image * images, strip, row * rows, 0, 0)
        block = jax.lax.dynamic_slice(padded, at, (n, taps, 1, rows + height - 1, w, c))
        slopes = jax.lax.dynamic_slice(gradient, at, (n, images, 1, rows, w, out))
        block = block.astype(jnp.float32).reshape(n, images, time, rows + height - 1, w, c)
        slopes = slopes.astype(jnp.float32).reshape(n, images, rows, w, out)
        return total + jax.lax.conv_general_dilated(
            block.transpose(2, 5, 3, 4, 0, 1).reshape(time * c, rows + height - 1, w, n * images),
            slopes.transpose(2, 3, 0, 1, 4).reshape(rows, w, n * images, out),
            (1, 1),
            [(0, 0), (width // 2, width // 2)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    start = jnp.zeros((time * c, height, width, out), jnp.float32)
    total = jax.lax.fori_loop(0, (s // images) * strips * (h // rows), add_group, start)
    return total.reshape(time, c, height, width, out).transpose(0, 2, 3, 1, 4).astype(kernel.dtype)


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is no more than `most`, and at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(most, 1))
