"""The one convolution: XLA's values and gradients, strips apart, and no traffic when the batch is cut over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gil_jax.ops import convolution, winograd
from gil_jax.ops.convolution import convolve

CASES = {
    "first layer": ((2, 3, 16, 11, 1), (5, 5, 1, 4), 1),
    "2-D": ((3, 4, 16, 11, 4), (3, 3, 4, 6), 1),
    "2-D strips": ((3, 4, 16, 11, 4), (3, 3, 4, 6), 4),
    "1x1": ((3, 1, 16, 11, 4), (1, 1, 4, 6), 1),
    "3-D": ((2, 5, 16, 11, 4), (3, 3, 3, 4, 6), 1),
    "3-D strips": ((2, 5, 16, 11, 4), (3, 3, 3, 4, 6), 8),
    "3-D single frame": ((2, 1, 16, 11, 4), (3, 3, 3, 4, 6), 1),
    "2-D wide": ((2, 3, 16, 11, 32), (3, 3, 32, 34), 1),
    "2-D wide, no whole tiles": ((2, 3, 9, 10, 32), (3, 3, 32, 34), 1),
    "2-D wide strips": ((2, 3, 16, 11, 32), (3, 3, 32, 34), 8),
    "3-D wide": ((2, 4, 16, 11, 32), (3, 3, 3, 32, 34), 1),
    "3-D wide strips": ((1, 5, 20, 11, 32), (3, 3, 3, 32, 34), 4),
    "3-D wide single frame": ((2, 1, 8, 11, 32), (3, 3, 3, 32, 34), 1),
}


def plain(frames, kernel, strips):
    """Strip by strip with XLA's 3-D convolution."""
    kernel = kernel.reshape(-1, *kernel.shape[-4:]) if kernel.ndim == 4 else kernel
    pieces = [
        jax.lax.conv_general_dilated(
            strip,
            kernel,
            (1, 1, 1),
            "SAME",
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            precision="highest",
        )
        for strip in jnp.split(frames, strips, axis=2)
    ]
    return jnp.concatenate(pieces, axis=2)


def with_gradients(function, frames, kernel, weights):
    def weighted(frames, kernel):
        return jnp.vdot(function(frames, kernel).astype(jnp.float32), weights)

    return jax.jit(jax.value_and_grad(weighted, (0, 1)))(frames, kernel)


@pytest.fixture
def set_constant(monkeypatch):
    """Sets a constant that is read while a function is traced."""

    def set_and_forget(module, name, value):
        monkeypatch.setattr(module, name, value)
        jax.clear_caches()

    yield set_and_forget
    jax.clear_caches()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    frames_shape, kernel_shape, strips = CASES[request.param]
    draw = np.random.default_rng(0).standard_normal
    frames, kernel = draw(frames_shape, np.float32), draw(kernel_shape, np.float32)
    weights = draw((*frames_shape[:-1], kernel_shape[-1]), np.float32)
    expected = with_gradients(lambda f, k: plain(f, k, strips), frames, kernel, weights)
    return frames, kernel, strips, weights, expected


NARROW = [name for name in CASES if "wide" not in name]
WIDE = [name for name in CASES if "wide" in name]


@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)])
def test_value_and_gradients_are_those_of_a_plain_convolution(case, dtype, bound):
    frames, kernel, strips, weights, expected = case
    value, gradients = with_gradients(
        lambda f, k: convolve(f, k, strips=strips), jnp.asarray(frames, dtype), kernel, weights
    )
    assert gradients[0].dtype == dtype
    assert gradients[1].dtype == jnp.float32
    norm = float(jnp.linalg.norm(plain(frames, kernel, strips)) * np.linalg.norm(weights))
    assert abs(value - expected[0]) / norm < bound
    for ours, theirs in zip(gradients, expected[1], strict=True):
        assert jnp.max(jnp.abs(ours.astype(jnp.float32) - theirs)) / jnp.max(jnp.abs(theirs)) < bound


@pytest.mark.parametrize("case", NARROW, indirect=True)
@pytest.mark.parametrize("group_bytes", [1, 2000, 10_000])
def test_kernel_gradient_in_groups_of_any_size(case, group_bytes, set_constant):
    frames, kernel, strips, weights, expected = case
    set_constant(convolution, "GROUP_BYTES", group_bytes)
    gradient = with_gradients(lambda f, k: convolve(f, k, strips=strips), frames, kernel, weights)[1][1]
    assert jnp.max(jnp.abs(gradient - expected[1][1])) / jnp.max(jnp.abs(expected[1][1])) < 2e-6


@pytest.mark.parametrize("case", WIDE, indirect=True)
@pytest.mark.parametrize("block_bytes", [1, 100_000])
def test_winograd_in_blocks_of_any_size(case, block_bytes, set_constant):
    frames, kernel, strips, weights, expected = case
    assert winograd.fits(kernel.reshape(-1, *kernel.shape[-4:]))
    set_constant(winograd, "BLOCK_BYTES", block_bytes)
    set_constant(winograd, "KERNELS_A_BLOCK", 0)
    gradients = with_gradients(lambda f, k: convolve(f, k, strips=strips), frames, kernel, weights)[1]
    for ours, theirs in zip(gradients, expected[1], strict=True):
        assert jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs)) < 2e-6


@pytest.mark.parametrize("time", [1, 3])
def test_rounding_of_winograd_is_near_that_of_a_plain_convolution(time):
    draw = np.random.default_rng(0).standard_normal
    frames, kernel = draw((1, 4, 16, 12, 64)), draw((time, 3, 3, 64, 64))
    padded = np.pad(frames, [(0, 0), (time // 2, time // 2), (1, 1), (1, 1), (0, 0)])
    exact = sum(
        padded[:, t : t + 4, i : i + 16, j : j + 12] @ kernel[t, i, j] for t, i, j in np.ndindex(kernel.shape[:3])
    )
    frames, kernel = frames.astype(np.float32), kernel.astype(np.float32)
    assert winograd.fits(kernel)
    error, plain_error = (
        np.sqrt(np.mean((result - exact) ** 2)) for result in (convolve(frames, kernel), plain(frames, kernel, 1))
    )
    assert error < 1.5e-6 * exact.std()
    assert error < 8 * plain_error


@pytest.mark.parametrize("case", ["2-D strips", "3-D wide strips"], indirect=True)
def test_kernel_gradient_is_the_same_every_time(case):
    frames, kernel, strips, weights, _ = case
    runs = [with_gradients(lambda f, k: convolve(f, k, strips=strips), frames, kernel, weights)[1][1] for _ in range(2)]
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize(
    ("kernel_shape", "strips"),
    [((3, 3, 4, 6), 1), ((3, 3, 4, 6), 4), ((3, 3, 3, 4, 6), 4), ((3, 3, 32, 34), 1), ((3, 3, 3, 32, 34), 4)],
)
def test_a_batch_cut_over_devices_only_sums_the_kernel_gradient(kernel_shape, strips):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    cut, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    draw = np.random.default_rng(0).standard_normal
    frames, kernel = draw((16, 3, 16, 11, kernel_shape[-2]), np.float32), draw(kernel_shape, np.float32)
    frames, kernel = jax.device_put((frames, kernel), (cut, whole))

    def loss(frames, kernel):
        return jnp.mean(jnp.sin(convolve(frames, kernel, strips=strips)))

    gradients = jax.grad(loss, (0, 1))
    program = jax.jit(gradients, in_shardings=(cut, whole), out_shardings=(cut, whole)).lower(frames, kernel).compile()
    text = program.as_text()
    assert not [op for op in ("all-gather", "all-to-all", "collective-permute") if op in text]
    assert text.count("all-reduce(") == 1
    for ours, theirs in zip(program(frames, kernel), gradients(frames, kernel), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
