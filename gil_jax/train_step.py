"""One training step: gradients of the loss over the global batch, one update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from gil_jax.train_state import Network, TrainState
from gil_jax.types import Batch

Metrics = dict[str, Array]
AUGMENT_STREAM = 2**31 - 1  # no step has this number, so no other key is equal


def augment_batch(
    augment: Callable[[Array, Array, Array], Array], seed: int | Array, step: Array, batch: Batch
) -> Batch:
    """Augment the batch that comes after `step` steps; what is drawn depends on seed and step alone.

    augment: see `make_augmentation`.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), AUGMENT_STREAM), step)
    return batch._replace(silhouettes=augment(key, batch.silhouettes, batch.frame_mask))


def make_train_step(
    network: Network,
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    seed: int | Array,
    people: int = 0,
    accumulate: int = 1,
    augment: Callable[[Array, Array, Array], Array] | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Make step(state, batch) -> (state, metrics): pure, to be jitted with the layouts of the mesh.

    The loss sees the global batch, whatever the number of devices. Randomness is a function of (seed, step); seed may
    be traced.
    accumulate: pieces that a batch is computed in, one after the other; the loss sees one piece, and the gradients are
    averaged. Person i of the `people` of a batch is in piece i % accumulate.
    augment: (key, silhouettes, frame_mask) -> silhouettes that the network sees instead, see `make_augmentation`.
    metrics: float32 scalars: "loss", what the loss reports, "gradient_norm" (before clipping), "parameter_norm",
    "learning_rate", and "skipped": 1 where loss, gradient, or what the update would give, is not finite. Such a step
    keeps parameters, statistics and the optimiser's state as they were.
    """

    def gradients_of(params: Any, batch_stats: Any, batch: Batch, step: Array, key: Array) -> tuple:
        dropout_key, loss_key = jax.random.split(key)

        def objective(params: Any) -> tuple:
            output, new_stats = network.train(params, batch_stats, batch.silhouettes, batch.frame_mask, dropout_key)
            loss, terms = loss_fn(output, batch.labels, step, loss_key)
            return loss, (terms, new_stats)

        (loss, (terms, new_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(params)
        return gradients, new_stats, {"loss": loss, **terms}

    def accumulated(state: TrainState, batch: Batch, key: Array) -> tuple:
        pieces = jax.tree.map(lambda x: _pieces(x, people, accumulate), batch)

        def add(carry: tuple, piece: tuple) -> tuple:
            total, batch_stats = carry
            part, index = piece
            gradients, batch_stats, terms = gradients_of(
                state.params, batch_stats, part, state.step, jax.random.fold_in(key, index)
            )
            return (jax.tree.map(jnp.add, total, gradients), batch_stats), terms

        start = (jax.tree.map(jnp.zeros_like, state.params), state.batch_stats)
        (total, batch_stats), terms = jax.lax.scan(add, start, (pieces, jnp.arange(accumulate)))
        gradients = jax.tree.map(lambda x: x / accumulate, total)
        return gradients, batch_stats, jax.tree.map(lambda x: jnp.mean(x, axis=0), terms)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        if augment is not None:
            batch = augment_batch(augment, seed, state.step, batch)
        if accumulate > 1:
            gradients, batch_stats, terms = accumulated(state, batch, key)
        else:
            gradients, batch_stats, terms = gradients_of(state.params, state.batch_stats, batch, state.step, key)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            **terms,
            "gradient_norm": optax.tree.norm(gradients),
            "parameter_norm": optax.tree.norm(params),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        finite = _all_finite((batch_stats, metrics["loss"], metrics["gradient_norm"], metrics["parameter_norm"]))
        kept = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, batch_stats, opt_state),
            (state.params, state.batch_stats, state.opt_state),
        )
        return TrainState(state.step + 1, *kept), metrics | {"skipped": jnp.where(finite, 0.0, 1.0)}

    return step


def _pieces(x: Array, people: int, accumulate: int) -> Array:
    """[n, ...] -> [accumulate, n / accumulate, ...], the sequences of a person together.

    Every piece takes people from all over the batch, so that it lies on all devices as the batch does.
    """
    of_person = x.reshape(people // accumulate, accumulate, -1, *x.shape[1:])
    return of_person.swapaxes(0, 1).reshape(accumulate, -1, *x.shape[1:])


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
