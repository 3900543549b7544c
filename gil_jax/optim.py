"""Optimisers and learning rates, as the recipes of the published runs have them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array
from ml_collections import ConfigDict


class Averaged(NamedTuple):
    """State of an optimiser that keeps an exponential moving average of the parameters."""

    inner: Any
    average: Any


def make_schedule(config: ConfigDict, total_steps: int) -> optax.Schedule:
    """Make the learning rate of a step, from `config.optim`.

    "steps": base rate, times `decay_factor` at each of `decay_steps`.
    "cosine": min + (base - min)(1 + cos(pi t / total)) / 2 with t counted from step 0, where total is
    `config.total_steps`, or `total_steps` if that is 0; later steps keep the last rate. The first `warmup_steps` go
    linearly from `warmup_rate` to the base rate instead.
    """
    base, least, total = config.learning_rate, config.min_learning_rate, config.total_steps or total_steps
    if config.schedule == "steps":
        steps = optax.piecewise_constant_schedule(base, {int(s): config.decay_factor for s in config.decay_steps})

        def after(step: Array) -> Array:
            return jnp.asarray(steps(step))
    elif config.schedule == "cosine":

        def after(step: Array) -> Array:
            return least + (base - least) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / max(total, 1), 1.0))) / 2
    else:
        raise ValueError(f"config.optim.schedule={config.schedule!r}: choose 'steps' or 'cosine'")

    def schedule(step: ArrayLike) -> Array:
        step = jnp.asarray(step, jnp.float32)
        if config.warmup_steps <= 0:
            return after(step)
        warm = config.warmup_rate + (base - config.warmup_rate) * step / config.warmup_steps
        return jnp.where(step < config.warmup_steps, warm, after(step))

    return schedule


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Make SGD, Adam or AdamW from `config.optim`.

    In this order: gradients of `frozen` parameters are zeroed; all gradients are scaled down to the global norm
    `clip_norm` (0: not); weight decay is added to the gradient, as torch does (AdamW: to the update); the rule; and
    `average_decay` > 0 keeps a moving average of the parameters. Raises ValueError where a name does not fit.
    """
    decay = optax.add_decayed_weights(config.weight_decay)
    if config.optimizer == "sgd":
        rules = [decay, optax.sgd(schedule, momentum=config.momentum)]
    elif config.optimizer == "adam":
        rules = [decay, _weakly_typed(optax.adam(schedule))]
    elif config.optimizer == "adamw":
        rules = [_weakly_typed(optax.adamw(schedule, weight_decay=config.weight_decay))]
    else:
        raise ValueError(f"config.optim.optimizer={config.optimizer!r}: choose 'sgd', 'adam' or 'adamw'")
    if config.clip_norm > 0:
        rules.insert(0, optax.clip_by_global_norm(config.clip_norm))
    if config.frozen:
        frozen = optax.masked(optax.set_to_zero(), _named(tuple(config.frozen)))
        rules = [frozen, *rules, frozen]  # the last one holds back the decay
    optimizer = optax.chain(*rules)
    return _averaged(optimizer, config.average_decay) if config.average_decay > 0 else optimizer


def swap_average(params: Any, opt_state: Any) -> tuple[Any, Any]:
    """Exchange parameters and their moving average: (params, opt_state); unchanged where no average is kept."""
    if not isinstance(opt_state, Averaged):
        return params, opt_state
    return opt_state.average, opt_state._replace(average=params)


def _averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Keep average = decay * average + (1 - decay) * parameters after each update, from the first parameters on."""

    def init(params: Any) -> Averaged:
        return Averaged(optimizer.init(params), jax.tree.map(jnp.array, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Averaged]:
        updates, inner = optimizer.update(updates, state.inner, params)
        average = jax.tree.map(
            lambda kept, new: decay * kept + (1 - decay) * new, state.average, optax.apply_updates(params, updates)
        )
        return updates, Averaged(inner, average)

    return optax.GradientTransformation(init, update)


def _named(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """Make the mask of the parameters whose dotted path begins with one of `names`."""

    def mask(tree: Any) -> Any:
        paths = [".".join(str(key.key) for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        unused = [name for name in names if not any(f"{path}.".startswith(f"{name}.") for path in paths)]
        if unused:
            raise ValueError(
                f"config.optim.frozen={names}: no parameter below {', '.join(unused)}; the parameters are "
                f"{', '.join(paths)}"
            )
        leaves = [any(f"{path}.".startswith(f"{name}.") for name in names) for path in paths]
        return jax.tree.unflatten(jax.tree.structure(tree), leaves)

    return mask


def _weakly_typed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Let optax's Adam raise a float to its int32 count where dtype promotion is strict."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)
