"""The mesh, the shardings of batches and states, and code that runs on each device's own share of an array."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from gil_jax.processes import available_cores
from gil_jax.types import Batch

DATA, MODEL = "data", "model"  # the axes of the mesh: sequences of a batch, classes of a classifier
REPLICATED, BY_ROWS, BY_PARTS = PartitionSpec(), PartitionSpec(DATA), PartitionSpec(None, DATA)


def use_all_cores(rows: int, model_devices: int = 1) -> None:
    """On a CPU, make every core that this process may use a device; before the first array. GPU and TPU: no change.

    XLA works on many of its convolutions with one core only, so a device that is all cores leaves most of them idle.
    rows: of the global batch, which the devices share evenly: there are as many of them as divide it. A number that
    the environment names (XLA_FLAGS, JAX_NUM_CPU_DEVICES) stays.
    """
    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if asked or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    most = max(available_cores() // max(model_devices, 1), 1)
    shared_by = max(number for number in range(1, most + 1) if rows % number == 0)
    jax.config.update("jax_num_cpu_devices", shared_by * model_devices)


def make_mesh(model_devices: int = 1) -> Mesh:
    """All devices of all processes as a mesh ("data", "model"); `model_devices` of them share a classifier."""
    devices = jax.device_count()
    if model_devices < 1 or devices % model_devices:
        raise ValueError(
            f"config.sharding.model_devices={model_devices} does not divide the {devices} devices: choose a divisor"
        )
    shape = (devices // model_devices, model_devices)
    return jax.make_mesh(shape, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array."""
    return NamedSharding(mesh, REPLICATED)


def over_batch(mesh: Mesh) -> NamedSharding:
    """The first axis is cut over "data"."""
    return NamedSharding(mesh, BY_ROWS)


def of_batch(mesh: Mesh) -> Batch:
    """The layout of a training batch: labels are whole, so that no device waits for another's before its network."""
    return Batch(over_batch(mesh), over_batch(mesh), replicated(mesh))


def of_state(mesh: Mesh, state):
    """The layout of a TrainState: whole on every device, but classifiers are cut over their classes on "model"."""
    cut = mesh.shape[MODEL]

    def layout(path, leaf):
        is_classifier = any("classifier" in str(key) for key in path)
        if cut > 1 and is_classifier and leaf.ndim and leaf.shape[-1] % cut == 0:
            return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), MODEL))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(layout, state)


def local_rows(mesh: Mesh, rows: int) -> slice:
    """The rows of a global batch that this process loads."""
    layout = over_batch(mesh).addressable_devices_indices_map((rows,))
    starts, stops = zip(*(index[0].indices(rows)[:2] for index in layout.values()), strict=True)
    return slice(min(starts), max(stops))


def to_devices(layout, rows: int, arrays):
    """Arrays of this process -> global arrays [rows, ...], each in its layout: its rows of one that is cut, or all."""
    return jax.tree.map(
        lambda place, x: jax.make_array_from_process_local_data(place, np.asarray(x), (rows, *x.shape[1:])),
        layout,
        arrays,
    )


def data_devices(array: jax.Array) -> int:
    """The devices along "data" of the mesh that a traced array lies on; 1 where it lies on no mesh.

    The mesh is read from the type of the array. Where an operation loses it, the caller runs on one device: correct,
    but slower.
    """
    return jax.typeof(array).sharding.mesh.shape.get(DATA, 1)


def per_device(function: Callable, like: jax.Array, in_specs: Any, out_specs: Any) -> Callable:
    """Map `function` over the devices of the mesh that `like` lies on: each gets its own share of the arguments."""
    mesh = jax.typeof(like).sharding.mesh
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
