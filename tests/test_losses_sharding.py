"""The losses of a batch that is sharded over devices: the same numbers, and no more exchange than the maths needs."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from configs.loss_recipes import loss_recipe
from gil_jax.losses import make_loss
from gil_jax.losses.parts import group_parts
from gil_jax.types import ModelOutput

pytestmark = pytest.mark.slow

N, PARTS, FEATURES, CLASSES = 32, 6, 16, 5
BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1}
COLLECTIVE = re.compile(r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def make_batch():
    rng = np.random.default_rng(0)
    embeddings = 0.25 * (1.0 + rng.normal(size=(N, PARTS, FEATURES)))  # cosines all above 0
    logits = rng.normal(size=(N, PARTS, CLASSES)).astype(np.float32)
    labels = rng.integers(-1, CLASSES, size=N).astype(np.int32)
    return ModelOutput(embeddings.astype(np.float32), logits), labels


def run_on(devices: int, config):
    """(loss, metrics), gradients and the compiled program on some devices; all but the labels is sharded."""
    shape = (devices, 1)
    mesh = jax.make_mesh(
        shape, ("data", "model"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[: math.prod(shape)]
    )
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    replicated = NamedSharding(mesh, PartitionSpec())
    loss_fn = make_loss(config)

    def loss(output, labels):
        return loss_fn(output, labels, jnp.int32(60_000), jax.random.key(1))

    output, labels = make_batch()
    output, labels = jax.device_put(output, sharded), jax.device_put(labels, replicated)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True, allow_int=True), out_shardings=(replicated, sharded))
    program = step.lower(output, labels).compile()
    values, gradients = program(output, labels)
    return values, gradients, program


def collectives(program):
    """(kind, bytes of the result, whether inside a loop) of every exchange between devices."""
    found, computation = [], ""
    for line in program.as_text().splitlines():
        if head := re.match(r"^(ENTRY )?%?([\w.\-]+) \(", line):
            computation = "entry" if head[1] else head[2]
        if match := COLLECTIVE.search(line):
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            size = sum(BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in shapes)
            found.append((match[2], size, computation != "entry"))
    return found


@pytest.fixture(scope="module", params=["l_m", "as_released"])
def on_one_device(request):
    return request.param, run_on(1, loss_recipe(request.param))


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_loss_and_gradients_are_those_of_one_device(on_one_device, devices):
    recipe, (expected_values, expected_gradients, _) = on_one_device
    values, gradients, _ = run_on(devices, loss_recipe(recipe))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), values, expected_values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, expected_gradients)


def test_several_parts_at_once_are_the_same(on_one_device, monkeypatch):
    """As on an accelerator, on a CPU: each of 2 devices has 3 of the 6 parts, in two groups of 2."""
    monkeypatch.setattr("gil_jax.losses.parts.parts_at_once", lambda: 2)
    recipe, (expected_values, expected_gradients, _) = on_one_device
    values, gradients, _ = run_on(2, loss_recipe(recipe))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), values, expected_values)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), gradients, expected_gradients)


def test_groups_of_parts_are_even():
    for parts in (1, 6, 16, 31, 62, 64, 93):
        for devices in (1, 2, 3, 8, 64, 512):
            for most in (1, 16):
                groups, together = group_parts(parts, devices, most)
                assert 1 <= together <= most
                assert devices * groups * together >= parts
                share = -(-parts // devices)
                assert groups * together < share + groups  # less than one part of padding in each group
    assert group_parts(64, 8, 16) == (1, 8)
    assert group_parts(64, 3, 16) == (2, 11)


def test_one_device_exchanges_nothing(on_one_device):
    assert collectives(on_one_device[1][2]) == []


def test_embeddings_and_gradients_are_exchanged_once():
    found = collectives(run_on(8, loss_recipe("l_m"))[2])
    share = 4 * N * 8 * FEATURES // 8  # of one device: 6 parts are filled up to 8
    assert not any(inside_a_loop for _, _, inside_a_loop in found)
    assert sorted((kind, size) for kind, size, _ in found if size > 256) == [("all-to-all", share)] * 2
    small = [(kind, size) for kind, size, _ in found if size <= 256]
    assert sum(size for _, size in small) <= 256, small  # the least cosine, the metrics
    assert {kind for kind, _ in small} == {"all-reduce"}
