"""Learning rates and updates against the formulas of the recipes."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base_config
from gil_jax.optim import make_optimizer, make_schedule


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
    make = make_optimizer if field == "optimizer" else make_schedule
    with pytest.raises(ValueError, match=rf"config\.optim\.{field}='{value}'"):
        make(config, 10)


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
