"""The operations that benchmarks/roofline.py counts, beside counts by hand. Traced, not run."""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks.roofline import DEVICES, PARTS_AT_ONCE, Step, costs, devices_needed, held_bytes, measure, times
from configs.synthetic_gaitset import get_config
from gil_jax.ops.convolution import convolve


def _costs(function, *shapes, dtype=jnp.float32, trips=1):
    arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return costs(jax.make_jaxpr(function)(*arguments).jaxpr, trips)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("taps", [(3, 5), (3, 3, 5)])
def test_a_convolution(taps, dtype):
    frames, kernel = (2, 6, 8, 4, 3), (*taps, 3, 7)
    forward = 2 * (2 * 6 * 8 * 4 * 7) * (3 * 5 * (3 if len(taps) == 3 else 1) * 3)
    counted = _costs(lambda x, k: convolve(x, k.astype(x.dtype)), frames, kernel, dtype=jnp.dtype(dtype))
    assert counted[dtype] == forward
    assert counted["3-D"] == (forward if len(taps) == 3 else 0)
    size = jnp.dtype(dtype).itemsize
    assert counted["bytes"] == size * (2 * 6 * 8 * 4 * (3 + 7) + 15 * (3 if len(taps) == 3 else 1) * 3 * 7)


def test_the_gradients_of_a_convolution_cost_a_forward_pass_each_and_only_where_they_are_used():
    shapes = (2, 6, 8, 4, 3), (3, 3, 3, 3, 7)
    loss = lambda x, k: jnp.sum(jnp.sin(convolve(x, k)))  # noqa: E731
    forward = _costs(loss, *shapes)["float32"]
    assert _costs(jax.value_and_grad(loss, argnums=(0, 1)), *shapes)["float32"] == 3 * forward
    assert _costs(jax.value_and_grad(loss, argnums=1), *shapes)["float32"] == 2 * forward


def test_groups_and_strides_of_a_convolution():
    def strided(x, k):
        return lax.conv_general_dilated(
            x, k, (2, 2), "VALID", feature_group_count=2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert _costs(strided, (1, 9, 9, 4), (3, 3, 2, 6))["float32"] == 2 * (4 * 4 * 6) * (3 * 3 * 2)


def test_a_product_and_its_precision():
    shapes = (5, 4, 6), (5, 6, 3)
    assert _costs(jnp.matmul, *shapes) == {"float32": 2 * 5 * 4 * 6 * 3, "bytes": 4 * 5 * (24 + 18 + 12)}
    highest = _costs(lambda a, b: jnp.matmul(a, b, precision=lax.Precision.HIGHEST), *shapes)
    assert highest["float32 HIGHEST"] == 2 * 5 * 4 * 6 * 3
    assert highest["float32"] == 0


def test_a_scan_counts_as_often_as_it_is_long_and_a_loop_as_told():
    product = 2 * 4 * 4 * 4
    scanned = _costs(lambda a: lax.scan(lambda x, _: (x @ x, None), a, length=7)[0], (4, 4))
    assert scanned["float32"] == 7 * product

    def loop(matrix, stop):
        return lax.fori_loop(0, stop.astype(jnp.int32), lambda _, x: x @ x, matrix)

    def loop_of_loops(matrix, stop):
        return lax.fori_loop(0, stop.astype(jnp.int32), lambda _, x: loop(x, stop), matrix)

    looped = _costs(loop, (4, 4), (), trips=5)
    assert looped["float32"] == 5 * product
    assert looped["bytes"] == 5 * 4 * (3 * 16 + 2 * (16 + 2))  # the product; the matrix, the index and its end carried
    assert _costs(loop_of_loops, (4, 4), (), trips=5)["float32"] == 5 * product


def test_calls_are_entered_and_a_condition_counts_its_dearest_branch():
    def chosen(matrix):
        return lax.cond(matrix[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, matrix)

    product = 2 * 4 * 4 * 4
    assert _costs(jax.jit(chosen), (4, 4))["float32"] == 2 * product
    assert _costs(jax.checkpoint(lambda x: x @ x), (4, 4))["float32"] == product


def test_what_is_held_for_the_backward_pass():
    def function(weights, rows):
        return jnp.sum(jnp.sin((rows @ weights).reshape(-1))), None

    assert held_bytes(function, jnp.ones((6, 3)), jnp.ones((5, 6))) == 4 * 5 * 3  # the cosine; rows are an argument


def test_a_step_of_a_narrow_gaitset():
    config = get_config()
    c1, c2, c3 = config.model.channels = (2, 4, 6)
    features = config.model.features = 8
    frames, parts = config.data.frames, 2 * sum(config.model.bins)
    n = config.data.subjects_per_batch * config.data.sequences_per_subject
    first = 64 * 44 * 25 * c1
    second, third = 32 * 22 * 9 * (c1 * c2 + c2 * c2), 16 * 11 * 9 * (c2 * c3 + c3 * c3)
    macs = n * (frames * (first + 64 * 44 * 9 * c1 * c1 + second + third) + second + third + parts * c3 * features)
    step = measure(config)
    assert step.sequences == n
    assert step.costs["float32"] == 2 * (3 * macs - n * frames * first)  # silhouettes need no gradient
    groups = -(-parts // PARTS_AT_ONCE) * PARTS_AT_ONCE
    assert step.costs["float32 HIGHEST"] == groups * 2 * 2 * (n * n * features + n * features)
    parameters = 25 * c1 + 9 * c1 * c1 + 2 * 9 * (c1 * c2 + c2 * c2 + c2 * c3 + c3 * c3) + parts * c3 * features
    assert step.whole == 4 * (3 * parameters + 2)  # parameters, momentum, gradients; the steps of state and schedule
    assert step.cut > n * frames * 64 * 44 * (1 + 4 * c1)  # at least the silhouettes and the first map


def test_the_roofline_of_a_step():
    step = Step(8, Counter(bfloat16=197e12, bytes=2 * 819e9), whole=4e9, cut=40e9)
    assert times(step, DEVICES["v5e"]) == (1.0, 2.0)
    assert devices_needed(step, DEVICES["H100"]) == 1
    assert devices_needed(step, DEVICES["v5e"]) == 4
    assert devices_needed(step._replace(whole=20e9), DEVICES["v5e"]) is None
