"""The training of a config, assembled: network, loss, optimiser, first state, step, and the shapes of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.augmentation import make_augmentation
from gil_jax.data.transforms import cut_width, frames_range
from gil_jax.losses import make_loss
from gil_jax.optim import make_optimizer, make_schedule
from gil_jax.sharding import batch_sharding, replicated, state_sharding
from gil_jax.train_state import Network, TrainState, make_network
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch


class Training(NamedTuple):
    """Pure functions of a config.

    init() -> TrainState of step 0. step(state, batch) -> (state, metrics). batch: shapes of a global batch.
    """

    network: Network
    schedule: optax.Schedule
    init: Callable[[], TrainState]
    step: Callable[[TrainState, Batch], tuple[TrainState, dict]]
    batch: Batch


def make_training(config: ConfigDict) -> Training:
    """Assemble a training; raises ValueError that names the field of the config that does not fit."""
    network = make_network(config.model)
    schedule = make_schedule(config.optim, config.train.steps)
    optimizer = make_optimizer(config.optim, schedule)
    step = make_train_step(
        network,
        make_loss(config.loss),
        optimizer,
        schedule,
        config.seed,
        people=config.data.subjects_per_batch,
        accumulate=config.optim.accumulate,
        augment=make_augmentation(config.data.augment, config.data.height),
    )

    def init() -> TrainState:
        params, batch_stats = network.init(config.seed)
        return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    return Training(network, schedule, init, step, _batch_shapes(config))


def batch_size(config: ConfigDict) -> int:
    """The sequences of a global batch."""
    return config.data.subjects_per_batch * config.data.sequences_per_subject


def lower_step(training: Training, mesh: Mesh) -> tuple[jax.stages.Lowered, TrainState, TrainState]:
    """Lower the jitted step for a mesh; the state that it is given is donated.

    Returns (lowered, shapes of the state, shardings of the state).
    """
    shapes = jax.eval_shape(training.init)
    layout, batch_layout = state_sharding(mesh, shapes), batch_sharding(mesh)
    batch = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), training.batch, batch_layout
    )
    step = jax.jit(
        training.step,
        in_shardings=(layout, batch_layout),
        out_shardings=(layout, replicated(mesh)),
        donate_argnums=0,
    )
    return step.lower(shapes, batch), shapes, layout


def initialise(init: Callable[[], TrainState], layout: TrainState) -> TrainState:
    """Run `Training.init` with its shardings, so that a classifier of a million classes is never on one device."""
    lowered = jax.jit(init, out_shardings=layout).lower()
    # It runs once: on a CPU optimising it takes several times as long as compiling it otherwise, and saves nothing.
    options: dict[str, Any] = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return lowered.compile(options)()


def _batch_shapes(config: ConfigDict) -> Batch:
    n, (_, s), h = batch_size(config), frames_range(config.data.frames), config.data.height
    return Batch(
        jax.ShapeDtypeStruct((n, s, h, cut_width(h)), jnp.uint8),
        jax.ShapeDtypeStruct((n, s), jnp.bool_),
        jax.ShapeDtypeStruct((n,), jnp.int32),
    )
