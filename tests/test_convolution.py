"""The one convolution: XLA's values and gradients, strips apart, and no traffic when the batch is sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gil_jax.ops import convolution, taps, winograd
from gil_jax.ops.convolution import convolution_method, convolve

pytestmark = pytest.mark.slow

CASES = {  # shapes of frames and kernel, strips, stride
    "first layer": ((2, 3, 16, 11, 1), (5, 5, 1, 4), 1, 1),
    "2-D": ((3, 4, 16, 11, 4), (3, 3, 4, 6), 1, 1),
    "2-D strips": ((3, 4, 16, 11, 4), (3, 3, 4, 6), 4, 1),
    "1x1": ((3, 1, 16, 11, 4), (1, 1, 4, 6), 1, 1),
    "3-D": ((2, 5, 16, 11, 4), (3, 3, 3, 4, 6), 1, 1),
    "3-D strips": ((2, 5, 16, 11, 4), (3, 3, 3, 4, 6), 8, 1),
    "3-D single frame": ((2, 1, 16, 11, 4), (3, 3, 3, 4, 6), 1, 1),
    "2-D wide": ((2, 3, 16, 11, 32), (3, 3, 32, 34), 1, 1),
    "2-D wide, no whole tiles": ((2, 3, 9, 10, 32), (3, 3, 32, 34), 1, 1),
    "2-D wide strips": ((2, 3, 16, 11, 32), (3, 3, 32, 34), 8, 1),
    "3-D wide": ((2, 4, 16, 11, 32), (3, 3, 3, 32, 34), 1, 1),
    "3-D wide strips": ((1, 5, 20, 11, 32), (3, 3, 3, 32, 34), 4, 1),
    "2-D strided": ((2, 3, 16, 11, 4), (3, 3, 4, 6), 1, 2),
    "2-D strided, odd height": ((2, 3, 9, 10, 4), (3, 3, 4, 6), 1, 2),
    "2-D strided strips": ((2, 2, 16, 11, 4), (3, 3, 4, 6), 2, 2),
    "2-D stride 3, 5x3": ((2, 2, 16, 11, 4), (5, 3, 4, 6), 1, 3),
    "1x1 strided": ((2, 3, 16, 11, 4), (1, 1, 4, 6), 1, 2),
    "3-D strided": ((2, 5, 16, 11, 4), (3, 3, 3, 4, 6), 1, 2),
    "3-D strided single frame": ((2, 1, 16, 11, 4), (3, 3, 3, 4, 6), 1, 2),
    "1x1x1 strided": ((2, 3, 16, 11, 4), (1, 1, 1, 4, 6), 1, 2),
    "3x1x1 over time": ((2, 5, 16, 11, 4), (3, 1, 1, 4, 6), 1, 1),
    "3x1x1 over one frame": ((2, 1, 16, 11, 4), (3, 1, 1, 4, 6), 1, 1),
    "3-D wide single frame": ((2, 1, 8, 11, 32), (3, 3, 3, 32, 34), 1, 1),
}


def plain(frames, kernel, strips, stride):
    """Strip by strip with XLA's 3-D convolution."""
    kernel = kernel.reshape(-1, *kernel.shape[-4:]) if kernel.ndim == 4 else kernel
    pieces = [
        jax.lax.conv_general_dilated(
            strip,
            kernel,
            (1, stride, stride),
            [(size // 2, size // 2) for size in kernel.shape[:3]],
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
    frames_shape, kernel_shape, strips, stride = CASES[request.param]
    draw = np.random.default_rng(0).standard_normal
    frames, kernel = jnp.asarray(draw(frames_shape, np.float32)), jnp.asarray(draw(kernel_shape, np.float32))
    result = plain(frames, kernel, strips, stride)
    weights = draw(result.shape, np.float32)
    expected = with_gradients(lambda f, k: plain(f, k, strips, stride), frames, kernel, weights)
    norm = float(jnp.linalg.norm(result) * np.linalg.norm(weights))
    return frames, kernel, {"strips": strips, "stride": stride}, weights, expected, norm


GROUPED = ["first layer", "2-D", "2-D strips", "3-D", "3-D strips", "3-D single frame"]
BY_TAPS = [name for name in CASES if "strided" in name or "1x1" in name]
WIDE = [name for name in CASES if "wide" in name]


@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 2e-6), (jnp.bfloat16, 2e-2)])
def test_value_and_gradients_are_those_of_a_plain_convolution(case, dtype, bound):
    frames, kernel, fields, weights, expected, norm = case
    value, gradients = with_gradients(
        lambda f, k: convolve(f, k, **fields), jnp.asarray(frames, dtype), kernel, weights
    )
    assert gradients[0].dtype == dtype
    assert gradients[1].dtype == jnp.float32
    assert abs(value - expected[0]) / norm < bound
    for ours, theirs in zip(gradients, expected[1], strict=True):
        assert jnp.max(jnp.abs(ours.astype(jnp.float32) - theirs)) / jnp.max(jnp.abs(theirs)) < bound


@pytest.mark.parametrize("case", GROUPED, indirect=True)
@pytest.mark.parametrize("group_bytes", [1, 2000, 10_000])
def test_kernel_gradient_in_groups_of_any_size(case, group_bytes, set_constant):
    frames, kernel, fields, weights, expected, _ = case
    set_constant(convolution, "GROUP_BYTES", group_bytes)
    gradient = with_gradients(lambda f, k: convolve(f, k, **fields), frames, kernel, weights)[1][1]
    assert jnp.max(jnp.abs(gradient - expected[1][1])) / jnp.max(jnp.abs(expected[1][1])) < 2e-6


@pytest.mark.parametrize("case", WIDE, indirect=True)
@pytest.mark.parametrize("block_bytes", [1, 100_000])
def test_winograd_in_blocks_of_any_size(case, block_bytes, set_constant):
    frames, kernel, fields, weights, expected, _ = case
    assert winograd.fits(kernel.reshape(-1, *kernel.shape[-4:]))
    set_constant(winograd, "BLOCK_BYTES", block_bytes)
    set_constant(winograd, "KERNELS_A_BLOCK", 0)
    gradients = with_gradients(lambda f, k: convolve(f, k, **fields), frames, kernel, weights)[1]
    for ours, theirs in zip(gradients, expected[1], strict=True):
        assert jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs)) < 2e-6


@pytest.mark.parametrize("case", BY_TAPS, indirect=True)
def test_taps_in_blocks_of_any_size(case, set_constant):
    frames, kernel, fields, weights, expected, _ = case
    assert taps.fits(kernel.reshape(-1, *kernel.shape[-4:]), fields["stride"])
    set_constant(taps, "BLOCK_BYTES", 1)
    gradients = with_gradients(lambda f, k: convolve(f, k, **fields), frames, kernel, weights)[1]
    for ours, theirs in zip(gradients, expected[1], strict=True):
        assert jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs)) < 2e-6


@pytest.mark.parametrize("case", ["2-D wide", "3-D strided", "3x1x1 over time"], indirect=True)
def test_the_ways_of_the_cpu_can_be_turned_off(case):
    frames, kernel, fields, weights, expected, _ = case

    def by_xla(frames, kernel):
        with convolution_method("xla"):
            return convolve(frames, kernel, **fields)

    def convolutions_of(function):
        """Those of the program before optimisation, where the CPU's ways are matrix products."""
        return jax.jit(function).lower(frames, kernel).as_text().count("stablehlo.convolution")

    assert (convolutions_of(by_xla), convolutions_of(lambda f, k: convolve(f, k, **fields))) == (1, 0)
    _, gradients = with_gradients(by_xla, frames, kernel, weights)
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
    frames, kernel = jnp.asarray(frames, jnp.float32), jnp.asarray(kernel, jnp.float32)
    assert winograd.fits(kernel)
    error, plain_error = (
        np.sqrt(np.mean((result - exact) ** 2)) for result in (convolve(frames, kernel), plain(frames, kernel, 1, 1))
    )
    assert error < 1.5e-6 * exact.std()
    assert error < 8 * plain_error


@pytest.mark.parametrize("case", ["2-D strips", "3-D wide strips"], indirect=True)
def test_kernel_gradient_is_the_same_every_time(case):
    frames, kernel, fields, weights, *_ = case
    runs = [with_gradients(lambda f, k: convolve(f, k, **fields), frames, kernel, weights)[1][1] for _ in range(2)]
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize(
    ("kernel_shape", "strips", "stride"),
    [
        ((3, 3, 4, 6), 1, 1),
        ((3, 3, 4, 6), 4, 1),
        ((3, 3, 3, 4, 6), 4, 1),
        ((3, 3, 32, 34), 1, 1),
        ((3, 3, 3, 32, 34), 4, 1),
        ((3, 3, 4, 6), 1, 2),
        ((3, 3, 3, 4, 6), 1, 2),
        ((3, 1, 1, 4, 6), 1, 1),
    ],
)
def test_a_sharded_batch_only_sums_the_kernel_gradient(kernel_shape, strips, stride):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded, replicated = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    draw = np.random.default_rng(0).standard_normal
    frames, kernel = draw((16, 3, 16, 11, kernel_shape[-2]), np.float32), draw(kernel_shape, np.float32)
    frames, kernel = jax.device_put((frames, kernel), (sharded, replicated))

    def loss(frames, kernel):
        return jnp.mean(jnp.sin(convolve(frames, kernel, strips=strips, stride=stride)))

    gradients = jax.grad(loss, (0, 1))
    program = (
        jax.jit(gradients, in_shardings=(sharded, replicated), out_shardings=(sharded, replicated))
        .lower(frames, kernel)
        .compile()
    )
    text = program.as_text()
    assert not [op for op in ("all-gather", "all-to-all", "collective-permute") if op in text]
    assert text.count("all-reduce(") == 1
    for ours, theirs in zip(program(frames, kernel), gradients(frames, kernel), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
