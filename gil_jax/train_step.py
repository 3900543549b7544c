"""One training step: gradients of the loss over the global batch, one update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gil_jax.train_state import Network, TrainState
from gil_jax.types import Batch


def make_train_step(
    network: Network, loss_fn: Callable, optimizer: optax.GradientTransformation, schedule: Callable, seed: int
):
    """step(state, batch) -> (state, metrics): pure, to be jitted with the layouts of the mesh.

    The loss sees the global batch, whatever the number of devices. Randomness is a function of (seed, step).
    metrics: float32 scalars: "loss", what the loss reports, "gradient_norm", "learning_rate".
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
        dropout_key, loss_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), state.step))

        def objective(params):
            output, batch_stats = network.train(
                params, state.batch_stats, batch.silhouettes, batch.frame_mask, dropout_key
            )
            loss, terms = loss_fn(output, batch.labels, state.step, loss_key)
            return loss, (terms, batch_stats)

        (loss, (terms, batch_stats)), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {
            "loss": loss,
            **terms,
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), metrics

    return step
