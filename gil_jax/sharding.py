"""The mesh, the shardings of batches and states, and code that runs on each device's own share of an array."""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Int

from gil_jax.processes import available_cores
from gil_jax.types import Batch

DATA, MODEL = "data", "model"  # the axes of the mesh: sequences of a batch, classes of a classifier
REPLICATED, BY_ROWS, BY_PARTS = PartitionSpec(), PartitionSpec(DATA), PartitionSpec(None, DATA)


def use_all_cores(rows: int, model_devices: int = 1) -> None:
    """Make every core that this process may use a device; before the first array. No effect on GPU and TPU.

    XLA runs many of its CPU convolutions on one core only, so one device of all cores leaves most of them idle.
    rows: of the global batch, which the devices share evenly: there are as many devices as divide it. Does nothing if
    XLA_FLAGS or JAX_NUM_CPU_DEVICES sets the number of devices.
    """
    is_set = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if is_set or "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    most = max(available_cores() // max(model_devices, 1), 1)
    shared_by = max(number for number in range(1, most + 1) if rows % number == 0)
    jax.config.update("jax_num_cpu_devices", shared_by * model_devices)


def make_mesh(model_devices: int = 1) -> Mesh:
    """All devices of all processes as a mesh ("data", "model"); `model_devices` of them share one classifier."""
    devices = jax.device_count()
    if model_devices < 1 or devices % model_devices:
        raise ValueError(
            f"config.sharding.model_devices={model_devices} does not divide the {devices} devices: choose a divisor"
        )
    shape = (devices // model_devices, model_devices)
    return jax.make_mesh(shape, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def local_mesh() -> Mesh:
    """The devices of this process as a mesh ("data", "model"), for work that every process does by itself."""
    devices = jax.local_devices()
    return jax.make_mesh((len(devices), 1), (DATA, MODEL), axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Replicate an array: every device holds all of it."""
    return NamedSharding(mesh, REPLICATED)


def sharded_over_data(mesh: Mesh) -> NamedSharding:
    """Shard the first axis over "data"."""
    return NamedSharding(mesh, BY_ROWS)


def sharded_second_axis(mesh: Mesh) -> NamedSharding:
    """Shard the second axis over "data"."""
    return NamedSharding(mesh, BY_PARTS)


def batch_sharding(mesh: Mesh) -> Batch:
    """Shardings of a training batch.

    Labels are replicated: every device needs all of them, and gathering them at the start of a step would make the
    devices wait for each other.
    """
    return Batch(sharded_over_data(mesh), sharded_over_data(mesh), replicated(mesh))


def state_sharding(mesh: Mesh, state: Any) -> Any:
    """Shardings of a TrainState: replicated, but classifiers are sharded by their classes over "model".

    Raises ValueError where the devices of "model" cannot share the classes evenly.
    """
    shards = mesh.shape[MODEL]

    def layout(path, leaf):
        is_classifier = any("classifier" in str(key) for key in path)
        if shards == 1 or not is_classifier or not leaf.ndim:
            return replicated(mesh)
        classes = leaf.shape[-1]
        if classes % shards:
            raise ValueError(
                f"config.sharding.model_devices={shards} devices cannot share {classes} classes evenly: set "
                f"config.model.num_classes={classes + -classes % shards} (classes without people are allowed), or "
                "choose a divisor of the classes"
            )
        return NamedSharding(mesh, PartitionSpec(*[None] * (leaf.ndim - 1), MODEL))

    return jax.tree_util.tree_map_with_path(layout, state)


def local_rows(mesh: Mesh, rows: int) -> Int[np.ndarray, " m"]:
    """The rows of a global batch of `rows` that the devices of this process hold, ascending."""
    return rows_of_process(mesh.devices, jax.process_index(), rows)


def rows_of_process(devices: np.ndarray, process: int, rows: int) -> Int[np.ndarray, " m"]:
    """The rows of a global batch that the devices of a process hold, ascending.

    devices: of a mesh [data, model]. jax orders them by the topology, so a process need not hold neighbouring rows.
    """
    shards = np.arange(rows).reshape(len(devices), -1)
    owned = [any(device.process_index == process for device in along_model) for along_model in devices]
    return shards[owned].reshape(-1)


def to_devices(layout: Any, rows: int, arrays: Any) -> Any:
    """Arrays of this process -> global arrays [rows, ...] in the layout.

    Each array holds either all rows, or those of `local_rows`.
    """

    def place(sharding: NamedSharding, x: np.ndarray) -> jax.Array:
        shape = (rows, *x.shape[1:])
        if len(x) == rows:
            return jax.make_array_from_callback(shape, sharding, lambda index: x[index])
        indices = sharding.addressable_devices_indices_map((rows,)).values()
        held = np.unique(np.concatenate([np.arange(rows)[index] for index in indices]))

        def shard(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(rows)
            first = int(np.searchsorted(held, start))
            return x[first : first + stop - start]

        return jax.make_array_from_callback(shape, sharding, shard)

    return jax.tree.map(place, layout, arrays)


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
