"""PyTorch checkpoints of the OpenGait family to our variables and back. torch itself reads and writes the files."""

import re
from typing import Any

import jax
import numpy as np

from gil_jax import torch_keys
from gil_jax.torch_file import read_checkpoint, write_checkpoint
from gil_jax.torch_shapes import infer_config
from gil_jax.train_state import make_network

__all__ = ["convert", "export", "from_torch", "read_checkpoint", "without_name", "write_checkpoint"]

# Their axes in the order in which our arrays hold them: O out, I in, D time, H height, W width, P parts, C any.
AXES = {"OIHW": "HWIO", "OIDHW": "DHWIO", "OIT": "TIO", "OI": "IO", "PIO": "PIO", "C": "C"}
STATISTICS = ("mean", "var", "fixed_bias")


def convert(state: dict[str, np.ndarray], name: str, **overrides: Any) -> tuple[dict, dict, dict]:
    """Convert a state dict to (model config, params, batch_stats) of the network `name`.

    Widths, classes and bins come from the shapes; overrides are fields of the model config that shapes do not tell
    (height, halvings) or that are to be forced. Raises ValueError with a table of all keys that are missing,
    unexpected or of another shape, and the likely cause; or with the names of arrays that are not finite.
    """
    if name not in torch_keys.NETWORKS:
        raise ValueError(f"{name!r} has no table of PyTorch names: choose one of {', '.join(torch_keys.NETWORKS)}")
    state = _join_parts(dict(state), name)
    _check_finite(state)
    config = infer_config(name, {key: value.shape for key, value in state.items()}, overrides)
    try:
        wanted = jax.eval_shape(make_network(config).init, 0)
    except ValueError as error:
        raise ValueError(
            f"The checkpoint does not look like a {name}: {error}.{_other_network(state, name)}"
        ) from error
    original = name == "gaitset" and torch_keys.is_original_gaitset(state)
    table = torch_keys.GAITSET_ORIGINAL if original else torch_keys.key_table(config)
    _check(state, table, wanted, name)
    params, batch_stats = from_torch(state, table)
    if original:
        params["head"]["kernel"] = params["head"]["kernel"][_interleaved_parts(config["bins"])]
    return config, params, batch_stats


def export(params: dict, batch_stats: dict, config: dict) -> dict[str, np.ndarray]:
    """Return a network's state dict of numpy arrays under the names of the OpenGait family; config: of the model."""
    state = {}
    for path, (key, axes) in torch_keys.key_table(config).items():
        value = np.asarray(_leaf(params, batch_stats, path))
        arrays = value if "{part}" in key else [value]
        for part, array in enumerate(arrays):
            state[key.format(part=part)] = np.transpose(array, [AXES[axes].index(letter) for letter in axes])
    return state


def without_name(params: dict, config: dict) -> list[str]:
    """List the arrays that `export` leaves out: classifiers that the family's network does not have."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = {".".join(str(getattr(step, "key", getattr(step, "idx", step))) for step in path) for path, _ in paths}
    return sorted(names - torch_keys.key_table(config).keys())


def from_torch(state: dict[str, np.ndarray], table: torch_keys.Table) -> tuple[dict, dict]:
    """Return (params, batch_stats) as nested dicts of numpy arrays; every key of the table must be in the state."""
    params, batch_stats = {}, {}
    for path, (key, axes) in table.items():
        *modules, leaf = _steps(path)
        node = batch_stats if leaf in STATISTICS else params
        for module in modules:
            node = node.setdefault(module, {})
        order = [axes.index(letter) for letter in AXES[axes]]
        arrays = [np.transpose(state[name], order) for name in _names(key, state)]
        node[leaf] = np.ascontiguousarray(np.stack(arrays) if "{part}" in key else arrays[0])
    return params, batch_stats


def _join_parts(state: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Join what some checkpoints keep in a list: the linear layer of GaitSet's original release, a neck per part.

    BNNecks with parallel_BN1d=False has a BatchNorm of d features for each of p parts, otherwise one of all features,
    ordered part by part in Baseline and feature by feature in the other networks.
    """
    if "fc_bin.0" in state:
        state["fc_bin"] = state.pop("fc_bin.0")
    parts = sorted({int(found[1]) for key in state if (found := re.match(r"BNNecks\.bn1d\.(\d+)\.", key))})
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        keys = [f"BNNecks.bn1d.{part}.{leaf}" for part in parts]
        if keys and all(key in state for key in keys) and parts == list(range(len(parts))):
            joined = np.stack([state.pop(key) for key in keys], axis=0 if name == "baseline" else 1)
            state[f"BNNecks.bn1d.{leaf}"] = joined.reshape(-1)
    return state


def _check_finite(state: dict[str, np.ndarray]) -> None:
    wrong = [
        f"{key} ({np.sum(~np.isfinite(value))} of {value.size} values)"
        for key, value in state.items()
        if not np.all(np.isfinite(value))
    ]
    if wrong:
        raise ValueError(
            f"The checkpoint holds numbers that are not finite, in {', '.join(wrong[:5])}"
            f"{f' and {len(wrong) - 5} more arrays' if len(wrong) > 5 else ''}: its training diverged or the file is "
            "damaged; convert an earlier checkpoint"
        )


def _check(state: dict, table: torch_keys.Table, wanted: tuple[dict, dict], name: str) -> None:
    """Raise ValueError with a table of what does not fit."""
    expected = {}
    for path, (key, axes) in table.items():
        shape = _leaf(*wanted, path).shape
        parts = shape[0] if "{part}" in key else 1
        sizes = dict(zip(AXES[axes], shape[len(shape) - len(axes) :], strict=True))
        for part in range(parts):
            expected[key.format(part=part)] = tuple(sizes[letter] for letter in axes)
    found = {key: value.shape for key, value in state.items()}
    rows = []
    for key in sorted(expected.keys() | found.keys()):
        if key not in found:
            cause = (
                "another network" if len(expected.keys() & found.keys()) < len(expected) / 2 else "a part was cut off"
            )
            rows.append((key, "missing", "", expected[key], cause))
        elif key not in expected:
            rows.append((key, "unexpected", found[key], "", "another network, or a variant with more layers"))
        elif found[key] != expected[key]:
            rows.append((key, "shape", found[key], expected[key], _shape_cause(found[key], expected[key])))
    if rows:
        header = ("key", "problem", "in the file", "wanted", "likely cause")
        lines = [[str(cell) for cell in row] for row in (header, *rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        raise ValueError(
            f"The checkpoint does not fit {name}:{_other_network(state, name)}\n"
            + "\n".join(line.rstrip() for line in shown)
        )


def _shape_cause(found: tuple, expected: tuple) -> str:
    if sorted(found) == sorted(expected):
        return "axes in another order"
    if len(found) != len(expected):
        return "another kind of layer (2-D or 3-D)"
    return "a layer of another width than the arrays the widths are read from, or other bins"


def _other_network(state: dict, name: str) -> str:
    """Hint at the network that the names fit better."""

    def matches(other: str) -> tuple[float, float]:
        """The share of the file's keys that a network knows, then of the network's keys that are in the file."""
        config = infer_config(other, {key: value.shape for key, value in state.items()}, {})
        tables = [torch_keys.key_table(config)] + ([torch_keys.GAITSET_ORIGINAL] if other == "gaitset" else [])
        hits = [sum(key.format(part=0) in state for key, _ in table.values()) for table in tables]
        return max(hits) / len(state), max(hit / len(table) for hit, table in zip(hits, tables, strict=True))

    scores = {other: matches(other) for other in torch_keys.NETWORKS}
    best = max(scores, key=lambda other: scores[other])
    return f" its keys look like {best}, try --model={best}" if best != name and scores[best] > scores[name] else ""


def _interleaved_parts(bins: tuple) -> np.ndarray:
    """Index the parts of GaitSet's original release by ours.

    It orders the bins from few strips to many, both branches of each in turn; we have all bins of one branch, then all
    of the other.
    """
    starts, start = {}, 0
    for count in sorted(bins):
        for branch in (0, 1):
            starts[branch, count] = start
            start += count
    return np.concatenate([starts[b, count] + np.arange(count) for b in (0, 1) for count in bins])


def _steps(path: str) -> list:
    return [int(step) if step.isdigit() else step for step in path.split(".")]


def _leaf(params, batch_stats, path: str):
    steps = _steps(path)
    node = batch_stats if steps[-1] in STATISTICS else params
    for step in steps:
        node = node[step]
    return node


def _names(key: str, state: dict) -> list:
    """List the keys of the state that one entry of a table stands for."""
    if "{part}" not in key:
        return [key]
    parts = 0
    while key.format(part=parts) in state:
        parts += 1
    return [key.format(part=part) for part in range(parts)]
