"""Every config of the repository, with every recipe, fits together: traced, not run."""

import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from configs.loss_recipes import RECIPES
from gil_jax.data.protocols import PROTOCOLS
from gil_jax.losses import make_loss
from gil_jax.models import MODELS
from gil_jax.optim import make_optimizer, make_schedule
from gil_jax.train_state import TrainState, make_network
from gil_jax.train_step import make_train_step
from gil_jax.types import Batch

ROOT = Path(__file__).parent.parent
SHARED = {"__init__", "base", "rows", "loss_recipes"}
ROWS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem not in SHARED)


def _config(row, *recipe):
    return importlib.import_module(f"configs.{row}").get_config(*recipe)


def test_every_network_has_a_row():
    assert {_config(row).model.name for row in ROWS} == set(MODELS)
    assert len(ROWS) >= 11


@pytest.mark.parametrize("row", ROWS)
def test_a_row_fits_its_data_and_its_docstring(row):
    config = _config(row)
    document = importlib.import_module(f"configs.{row}").__doc__
    assert f"python run_train.py --config=configs/{row}.py --workdir=<dir>" in document
    assert config.model.height == config.data.height
    protocol = PROTOCOLS[config.data.protocol]
    if config.data.split in protocol.splits and "num_classes" in config.model:
        assert config.model.num_classes == len(protocol.splits[config.data.split])
    for recipe in RECIPES:
        for split, expected in _config(row, recipe).expected.items():
            assert split in protocol.splits
            assert set(expected) == set(protocol.probes)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("row", ROWS)
def test_a_training_step_of_every_row_and_recipe_traces(row, recipe):
    config = _config(row, recipe)
    network = make_network(config.model)
    schedule = make_schedule(config.optim, config.train.steps)
    optimizer = make_optimizer(config.optim, schedule)
    step = make_train_step(network, make_loss(config.loss), optimizer, schedule, config.seed)

    def first_step(batch):
        params, batch_stats = network.init(config.seed)
        state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))
        after, metrics = step(state, batch)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert jax.tree.map(jnp.result_type, after) == jax.tree.map(jnp.result_type, state)
        return metrics

    n, s, h = config.data.subjects_per_batch * config.data.sequences_per_subject, config.data.frames, config.data.height
    batch = Batch(
        jax.ShapeDtypeStruct((n, s, h, h * 11 // 16), jnp.uint8),
        jax.ShapeDtypeStruct((n, s), jnp.bool_),
        jax.ShapeDtypeStruct((n,), jnp.int32),
    )
    metrics = jax.eval_shape(first_step, batch)
    assert {"loss", "gradient_norm", "learning_rate"} <= metrics.keys()
    assert all(value.shape == () and value.dtype == jnp.float32 for value in metrics.values())


def test_an_unknown_recipe_names_the_choices():
    with pytest.raises(ValueError, match="no loss recipe 'ls': choose one of triplet, l_m, l_s, gil, as_released"):
        _config("casia_b_gaitset", "ls")
