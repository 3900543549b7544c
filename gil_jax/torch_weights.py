"""PyTorch checkpoints of the OpenGait family to our variables and back. torch itself reads and writes the files."""

from pathlib import Path

import jax
import numpy as np

from gil_jax import torch_keys
from gil_jax.torch_shapes import infer_config
from gil_jax.train_state import make_network

# Their axes in the order in which our arrays hold them: O out, I in, D time, H height, W width, P parts, C any.
AXES = {"OIHW": "HWIO", "OIDHW": "DHWIO", "OIT": "TIO", "OI": "IO", "PIO": "PIO", "C": "C"}
STATISTICS = ("mean", "var", "fixed_bias")


def read_checkpoint(path: str) -> tuple[dict, int]:
    """(state dict of float32 numpy arrays, step) of a file that torch.save wrote.

    The file holds {"model": state dict, "iteration": n}, or a bare state dict (step 0); a prefix `module.` is dropped.
    Nothing in the file is executed. Raises FileNotFoundError, or ValueError that says what the file holds instead.
    """
    torch = _torch()
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch reads bytes that are no checkpoint with whatever error they lead it into
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"{path}: not a checkpoint of tensors alone ({reason}). Give the file that torch.save wrote; one that "
            "pickled a whole module has to be saved again as its state_dict()"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, wanted a state dict or {{'model': state dict}}")
    step = content.get("iteration", 0)
    state = next((content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)), content)
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ValueError(f"{path}: holds no tensors, only the keys {sorted(map(str, content))[:10]}")
    arrays = {key.removeprefix("module."): value.float().numpy() for key, value in tensors.items()}
    return {key: value for key, value in arrays.items() if not key.endswith("num_batches_tracked")}, int(step)


def write_checkpoint(path: str, state: dict, step: int) -> None:
    """Write {"model": state dict, "iteration": step} as torch.save does."""
    torch = _torch()
    counts = {  # PyTorch's BatchNorm counts its batches, and wants the number back
        key.replace("running_var", "num_batches_tracked"): torch.tensor(step)
        for key in state
        if key.endswith("running_var")
    }
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    torch.save({"model": {**tensors, **counts}, "iteration": step}, path)


def convert(state: dict, name: str, **overrides) -> tuple[dict, dict, dict]:
    """(model config, params, batch_stats) from a state dict of numpy arrays and the name of a network.

    Widths, classes and bins come from the shapes; overrides are fields of the model config that shapes do not tell
    (height, halvings) or that are to be forced. Raises ValueError with a table of all keys that are missing,
    unexpected or of another shape, and the likely cause.
    """
    if "fc_bin.0" in state:  # the original GaitSet release keeps it in a list
        state = {**state, "fc_bin": state["fc_bin.0"]}
        del state["fc_bin.0"]
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


def export(params: dict, batch_stats: dict, config: dict) -> dict:
    """The state dict of numpy arrays, under the names of the OpenGait family, of a network of this model config."""
    state = {}
    for path, (key, axes) in torch_keys.key_table(config).items():
        value = np.asarray(_leaf(params, batch_stats, path))
        arrays = value if "{part}" in key else [value]
        for part, array in enumerate(arrays):
            state[key.format(part=part)] = np.transpose(array, [AXES[axes].index(letter) for letter in axes])
    return state


def from_torch(state: dict, table: dict) -> tuple[dict, dict]:
    """(params, batch_stats) as nested dicts of numpy arrays; every key of the table must be there."""
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


def _check(state: dict, table: dict, wanted: tuple, name: str) -> None:
    """Raises ValueError with a table of what does not fit."""
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
    """A hint where the names fit another network better."""

    def matches(other):
        config = infer_config(other, {key: value.shape for key, value in state.items()}, {})
        tables = [torch_keys.key_table(config)] + ([torch_keys.GAITSET_ORIGINAL] if other == "gaitset" else [])
        return max(sum(key.format(part=0) in state for key, _ in table.values()) / len(table) for table in tables)

    scores = {other: matches(other) for other in torch_keys.NETWORKS}
    best = max(scores, key=scores.get)
    return f" its keys look like {best}, try --model={best}" if best != name and scores[best] > scores[name] else ""


def _interleaved_parts(bins: tuple) -> np.ndarray:
    """Where the original release keeps each of our parts: it goes through the bins from few strips to many and takes
    both branches of each in turn; we have all bins of one branch, then all of the other.
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
    """The keys of the state that one entry of a table stands for."""
    if "{part}" not in key:
        return [key]
    parts = 0
    while key.format(part=parts) in state:
        parts += 1
    return [key.format(part=part) for part in range(parts)]


def _torch():
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch checkpoints need PyTorch: pip install 'gil_jax[torch]'") from error
    return torch
