"""The one convolution of the project: frames with 2-D or 3-D kernels, whole or cut into strips of the height.

GPU and TPU take XLA's own way. On the CPU XLA's gradient with respect to the kernel is several times slower than its
forward pass, so there the gradient is built from matrix products over small groups of rows.
"""

from functools import partial

import jax
import jax.numpy as jnp

GROUP_BYTES = 2**20  # the columns of one group should stay in the cache of a core


def convolve(frames, kernel, *, strips: int = 1):
    """Convolution without bias, stride 1 and zero padding to the same size.

    frames: [n, s, h, w, c]. kernel: [height, width, c, out] works on every frame alone; [time, height, width, c, out]
    also along the frames. Odd sizes. strips: the height is cut into so many strips, each padded and convolved alone
    with the same kernel. Returns [n, s, h, w, out] in the dtype of the frames, to which the kernel is cast.
    """
    kernel = kernel.astype(frames.dtype)
    if kernel.ndim == 4:
        kernel = kernel[None]
    n, s, h, w, c = frames.shape
    if strips == 1:
        return _convolve(frames, kernel)
    pieces = frames.reshape(n, s, strips, h // strips, w, c).swapaxes(1, 2)
    pieces = _convolve(pieces.reshape(n * strips, s, h // strips, w, c), kernel)
    pieces = pieces.reshape(n, strips, s, h // strips, w, -1).swapaxes(1, 2)
    return pieces.reshape(n, s, h, w, -1)


def _xla_convolve(frames, kernel):
    n, s, h, w, c = frames.shape
    if kernel.shape[0] == 1:  # the frames are more rows of the batch
        images = jax.lax.conv_general_dilated(
            frames.reshape(n * s, h, w, c), kernel[0], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return images.reshape(n, s, h, w, -1)
    return jax.lax.conv_general_dilated(
        frames, kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )


@jax.custom_vjp
def _convolve(frames, kernel):
    return _xla_convolve(frames, kernel)


def _forward(frames, kernel):
    return _xla_convolve(frames, kernel), (frames, kernel)


def _backward(saved, gradient):
    frames, kernel = saved
    (frames_gradient,) = jax.vjp(lambda x: _xla_convolve(x, kernel), frames)[1](gradient)
    kernel_gradient = jax.lax.platform_dependent(
        frames,
        kernel,
        gradient,
        cpu=_kernel_gradient_by_groups,
        default=lambda x, k, g: jax.vjp(partial(_xla_convolve, x), k)[1](g)[0],
    )
    return frames_gradient, kernel_gradient


_convolve.defvjp(_forward, _backward)


def _kernel_gradient_by_groups(frames, kernel, gradient):
    """Columns of a group of rows times the gradient of these rows, added up in float32.

    The loop runs over frames and rows, never over the batch: that axis may be cut over devices.
    """
    n, s, h, w, c = frames.shape
    time, height, width, _, out = kernel.shape
    columns = time * height * width * c
    rows = max(1, min(h, GROUP_BYTES // (4 * n * w * columns)))
    while h % rows:
        rows -= 1
    halo = [(size // 2, size // 2) for size in (time, height, width)]
    padded = jnp.pad(frames, [(0, 0), *halo, (0, 0)])

    def add_group(index, total):
        frame, row = index // (h // rows), (index % (h // rows)) * rows
        block = jax.lax.dynamic_slice(padded, (0, frame, row, 0, 0), (n, time, rows + height - 1, w + width - 1, c))
        patches = jnp.concatenate(
            [block[:, t, y : y + rows, x : x + w] for t in range(time) for y in range(height) for x in range(width)],
            axis=-1,
        )
        weights = jax.lax.dynamic_slice(gradient, (0, frame, row, 0, 0), (n, 1, rows, w, out))
        return total + jax.lax.dot(
            patches.reshape(-1, columns).T, weights.reshape(-1, out), preferred_element_type=jnp.float32
        )

    total = jax.lax.fori_loop(0, s * (h // rows), add_group, jnp.zeros((columns, out), jnp.float32))
    return total.reshape(kernel.shape).astype(kernel.dtype)
