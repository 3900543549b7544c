"""Optimisers and learning rates, as the recipes of the published runs have them."""

import jax
import jax.numpy as jnp
import optax


def make_schedule(config, total_steps: int) -> optax.Schedule:
    """The learning rate of a step, from `config.optim`.

    "steps": base rate, times `decay_factor` at each of `decay_steps`.
    "cosine": min + (base - min)(1 + cos(pi t / total)) / 2 with t counted from step 0; the first `warmup_steps`
    go linearly from `warmup_rate` to the base rate instead.
    """
    base, least = config.learning_rate, config.min_learning_rate
    if config.schedule == "steps":
        after = optax.piecewise_constant_schedule(base, {int(s): config.decay_factor for s in config.decay_steps})
    elif config.schedule == "cosine":

        def after(step):
            return least + (base - least) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / total_steps, 1.0))) / 2
    else:
        raise ValueError(f"config.optim.schedule={config.schedule!r}: choose 'steps' or 'cosine'")

    def schedule(step):
        step = jnp.asarray(step, jnp.float32)
        if config.warmup_steps <= 0:
            return after(step)
        warm = config.warmup_rate + (base - config.warmup_rate) * step / config.warmup_steps
        return jnp.where(step < config.warmup_steps, warm, after(step))

    return schedule


def make_optimizer(config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """SGD or Adam from `config.optim`; weight decay is added to the gradient, as torch does."""
    if config.optimizer == "sgd":
        rule = optax.sgd(schedule, momentum=config.momentum)
    elif config.optimizer == "adam":
        rule = _adam(schedule)
    else:
        raise ValueError(f"config.optim.optimizer={config.optimizer!r}: choose 'sgd' or 'adam'")
    return optax.chain(optax.add_decayed_weights(config.weight_decay), rule)


def _adam(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Optax's Adam, which powers a float with the int32 count: strict dtype promotion is not for it."""
    adam = optax.adam(schedule)

    def update(gradients, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return adam.update(gradients, state, params)

    return optax.GradientTransformation(adam.init, update)
