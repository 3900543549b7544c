"""The costs of a config: parameters, multiply-adds, and on several devices memory and communication of a step.

Operations are counted in the program lowered for a TPU, where every convolution is one operation; the CPU's own ways of
convolving would hide most of them in loops.
"""

import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.data.transforms import cut_width
from gil_jax.sharding import state_sharding
from gil_jax.train_state import count_parameters, make_network
from gil_jax.training import lower_step, make_training

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
COLLECTIVE = re.compile(r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


class NetworkCost(NamedTuple):
    """parameters: trained values. multiply_adds: to embed one sequence. embedding: (parts, features)."""

    parameters: int
    multiply_adds: float
    embedding: tuple[int, int]


class StepCost(NamedTuple):
    """Costs of a training step on one device of a mesh, in bytes.

    state: parameters, statistics and optimiser state. temporary: what the compiled step needs besides, activations
    first of all. collectives: kind -> (number, bytes of their results).
    """

    state: int
    temporary: int
    collectives: dict[str, tuple[int, int]]


def network_cost(config: ConfigDict, frames: int) -> NetworkCost:
    """Count what it takes to embed one sequence of `frames` frames; nothing is compiled or run."""
    network = make_network(config.model)
    params, batch_stats = jax.eval_shape(network.init, 0)
    height = config.data.height
    sequence = jax.ShapeDtypeStruct((1, frames, height, cut_width(height)), jnp.uint8)
    mask = jax.ShapeDtypeStruct((1, frames), jnp.bool_)
    traced = jax.jit(network.embed).trace(params, batch_stats, sequence, mask)
    costs = traced.lower(lowering_platforms=("tpu",)).cost_analysis() or {}
    _, parts, features = traced.out_info.embeddings.shape
    return NetworkCost(count_parameters(params), costs["flops"] / 2, (parts, features))


def step_cost(config: ConfigDict, mesh: Mesh) -> StepCost:
    """Compile a config's training step for a mesh and read off what one device holds and exchanges."""
    lowered, shapes, _ = lower_step(make_training(config), mesh)
    compiled = lowered.compile()
    state = sum(
        math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, place in zip(jax.tree.leaves(shapes), jax.tree.leaves(state_sharding(mesh, shapes)), strict=True)
    )
    found: dict[str, tuple[int, int]] = {}
    for kind, size in collectives(compiled.as_text() or ""):
        number, total = found.get(kind, (0, 0))
        found[kind] = (number + 1, total + size)
    memory = compiled.memory_analysis()
    return StepCost(state, memory.temp_size_in_bytes if memory else 0, found)


def collectives(program: str) -> list[tuple[str, int]]:
    """(kind, bytes of the result) of every exchange between devices in the text of a compiled program."""
    found = []
    for match in COLLECTIVE.finditer(program):
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
        size = sum(BYTES[kind] * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in shapes)
        found.append((match[2], size))
    return found
