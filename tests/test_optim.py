"""Learning rates and updates against the formulas of the recipes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.base import base_config
from gil_jax.optim import make_optimizer, make_schedule, swap_average


def _optim(**change):
    config = base_config().optim
    config.update(change)
    return config


def test_steps_decay_at_their_step():
    rate = make_schedule(_optim(decay_steps=(10, 20)), 40)
    np.testing.assert_allclose(
        [float(rate(s)) for s in (0, 9, 10, 19, 20, 39)], [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3], rtol=1e-6
    )


def test_cosine_with_warm_up_counts_from_step_0():
    config = _optim(schedule="cosine", min_learning_rate=1e-4, warmup_steps=20)
    rate = make_schedule(config, 800)
    for step in (20, 21, 400, 800):
        expected = 1e-4 + (0.1 - 1e-4) * (1 + np.cos(np.pi * step / 800)) / 2
        np.testing.assert_allclose(float(rate(step)), expected, rtol=1e-5)
    np.testing.assert_allclose(float(rate(0)), 1e-6, rtol=1e-5)
    np.testing.assert_allclose(float(rate(10)), 1e-6 + (0.1 - 1e-6) / 2, rtol=1e-5)


def test_a_cosine_ends_where_the_config_says():
    rate = make_schedule(_optim(schedule="cosine", min_learning_rate=1e-4, total_steps=50), 800)
    np.testing.assert_allclose([float(rate(s)) for s in (0, 25, 50, 800)], [0.1, 0.05005, 1e-4, 1e-4], rtol=1e-5)


def test_sgd_adds_the_decay_to_the_gradient_and_keeps_momentum():
    optimizer = make_optimizer(_optim(), lambda _: 0.1)
    weight, momentum = 2.0, 0.0
    params = {"w": jnp.asarray(weight)}
    state = optimizer.init(params)
    for gradient in (1.0, -0.5, 0.25):
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        momentum = 0.9 * momentum + gradient + 5e-4 * weight
        weight -= 0.1 * momentum
        np.testing.assert_allclose(float(params["w"]), weight, rtol=1e-6)


@pytest.mark.parametrize(("field", "value"), [("optimizer", "sdg"), ("schedule", "cos")])
def test_an_unknown_choice_is_named(field, value):
    config = _optim(**{field: value})
    with pytest.raises(ValueError, match=rf"config\.optim\.{field}='{value}'"):
        make_optimizer(config, make_schedule(config, 10))


def test_adam_has_no_decay_and_corrects_its_bias():
    optimizer = make_optimizer(_optim(optimizer="adam", weight_decay=0.0), lambda _: 0.1)
    weight, first, second = 2.0, 0.0, 0.0
    params = {"w": jnp.asarray(weight)}
    state = optimizer.init(params)
    for count, gradient in enumerate((1.0, -0.5, 0.25), start=1):
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = {"w": params["w"] + updates["w"]}
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weight -= 0.1 * (first / (1 - 0.9**count)) / (np.sqrt(second / (1 - 0.999**count)) + 1e-8)
        np.testing.assert_allclose(float(params["w"]), weight, rtol=1e-5)


PARAMS = {"backbone": {"w": np.array([3.0, -1.0], np.float32)}, "head": {"w": np.array([2.0], np.float32)}}
GRADIENTS = {"backbone": {"w": np.array([3.0, 0.0], np.float32)}, "head": {"w": np.array([4.0], np.float32)}}


def _one_update(**change):
    optimizer = make_optimizer(_optim(**change), lambda _: jnp.float32(0.1))
    params, gradients = (jax.tree.map(jnp.asarray, tree) for tree in (PARAMS, GRADIENTS))
    updates, state = optimizer.update(gradients, optimizer.init(params), params)
    return jax.tree.map(np.asarray, optax.apply_updates(params, updates)), state


def test_adamw_takes_its_decay_off_the_parameters():
    after, _ = _one_update(optimizer="adamw", weight_decay=0.01)
    for name, part in PARAMS.items():
        step = 0.1 * (np.sign(GRADIENTS[name]["w"]) + 0.01 * part["w"])  # the first step of Adam has length 1
        np.testing.assert_allclose(after[name]["w"], part["w"] - step, rtol=1e-5)


@pytest.mark.parametrize(("norm", "scale"), [(1.0, 0.2), (10.0, 1.0)])
def test_gradients_are_scaled_down_to_their_global_norm(norm, scale):
    after, _ = _one_update(clip_norm=norm, weight_decay=0.0)  # the norm of (3, 0, 4) is 5
    for name, part in PARAMS.items():
        np.testing.assert_allclose(after[name]["w"], part["w"] - 0.1 * scale * GRADIENTS[name]["w"], rtol=1e-6)


def test_frozen_parameters_stay_and_do_not_count_in_the_norm():
    after, _ = _one_update(frozen=("backbone",), clip_norm=2.0, weight_decay=0.1)
    np.testing.assert_array_equal(after["backbone"]["w"], PARAMS["backbone"]["w"])
    np.testing.assert_allclose(after["head"]["w"], 2.0 - 0.1 * (4.0 * 2.0 / 4.0 + 0.1 * 2.0), rtol=1e-6)
    with pytest.raises(ValueError, match=r"no parameter below back; the parameters are backbone\.w, head\.w"):
        _one_update(frozen=("back",))


def test_the_average_follows_the_parameters():
    after, state = _one_update(average_decay=0.75)
    for name, part in PARAMS.items():
        np.testing.assert_allclose(state.average[name]["w"], 0.75 * part["w"] + 0.25 * after[name]["w"], rtol=1e-6)
    params, opt_state = swap_average(after, state)
    assert params is state.average
    assert opt_state.average is after
    assert swap_average(after, (1,)) == (after, (1,))
