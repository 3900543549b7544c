"""Checkpoints of a workdir: written by orbax, verified by checksums, read on any devices.

<workdir>/checkpoints/<step>/network holds what evaluation needs, optimizer the rest of the state, run what trained it.
Only the training that owns a workdir writes here; readers change nothing.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint.path import atomicity

from gil_jax.checksums import CHECKSUMS, find_damage, write_checksums
from gil_jax.data.files import flush_file_system, write_atomically
from gil_jax.distributed import print_once
from gil_jax.optim import swap_average
from gil_jax.train_state import TrainState

ITEMS = ("network", "optimizer", "run")
SCORES = "scores.json"


class _Durable(atomicity.AtomicRenameTemporaryPath):
    """A folder that gets checksums and is flushed to the disk before its rename says that it is whole."""

    async def finalize(self) -> None:
        folder = Path(self.get())
        if folder.name.split(".")[0] in ITEMS:
            write_checksums(folder)
            await super().finalize()
            return
        flush_file_system(folder)
        await super().finalize()
        flush_file_system(folder.parent)


class _LatestAndBest(policies.PreservationPolicy):
    """Keep the latest checkpoints, and the one with the highest score."""

    def __init__(self, folder: Path, latest: int, metric: str):
        self.folder, self.latest, self.metric = folder, latest, metric

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        scores = {step: read_scores(self.folder.parent, step).get(self.metric) for step in steps}
        scored = [step for step in steps if scores[step] is not None]
        kept = {*steps[-self.latest :], *([max(scored, key=lambda step: (scores[step], step))] if scored else [])}
        return [step in kept for step in steps]


def open_checkpoints(workdir: str, keep_latest: int = 2, metric: str = "eval/rank1") -> ocp.CheckpointManager:
    """Open the checkpoints of a workdir for writing; only the training that owns the workdir may.

    The latest `keep_latest` stay, and the one with the highest `metric` among those that `record_scores` was given.
    """
    folder = folder_of(workdir)
    options = ocp.CheckpointManagerOptions(
        preservation_policy=_LatestAndBest(folder, keep_latest, metric),
        temporary_path_class=_Durable,
        cleanup_tmp_directories=True,
    )
    handlers = {
        "network": ocp.StandardCheckpointHandler(),
        "optimizer": ocp.StandardCheckpointHandler(),
        "run": ocp.JsonCheckpointHandler(),
    }
    return ocp.CheckpointManager(folder, options=options, item_handlers=handlers)


def save(manager: ocp.CheckpointManager, state: TrainState, run: dict[str, Any] | None = None) -> None:
    """Write a checkpoint of state.step in the background.

    The network holds the moving average of the parameters where the optimiser keeps one. run: what the workdir says of
    the run, to be found where its own files are lost.
    """
    params, opt_state = swap_average(state.params, state.opt_state)
    items: dict[str, Any] = {
        "network": ocp.args.StandardSave({"params": params, "batch_stats": state.batch_stats}),
        "run": ocp.args.JsonSave(run or {}),
    }
    if opt_state is not None:
        items["optimizer"] = ocp.args.StandardSave(opt_state)
    manager.save(int(state.step), args=ocp.args.Composite(**items), force=True)


def restore(workdir: str, step: int, like: TrainState) -> TrainState:
    """Read the state of a checkpoint back; like: its shapes, dtypes and shardings (jax.ShapeDtypeStruct).

    The checkpoint may be written on other devices. Raises ValueError that lists the arrays that do not fit.
    """
    folder: Any = folder_of(workdir) / str(step)
    params, opt_state = swap_average(like.params, like.opt_state)
    wanted = {"network": {"params": params, "batch_stats": like.batch_stats}, "optimizer": opt_state}
    wrong = []
    for item, tree in wanted.items():
        held, here = _shapes(_tree_of(folder / item)), _shapes(tree)
        names = sorted(name for name in held.keys() | here.keys() if held.get(name) != here.get(name))
        wrong += [f"  {item}.{n}: {held.get(n, 'nothing')} there, {here.get(n, 'nothing')} here" for n in names]
    if wrong:
        raise ValueError(f"{folder} does not fit the config:\n" + "\n".join(wrong))
    handler = ocp.StandardCheckpointHandler()
    read = {name: handler.restore(folder / name, args=ocp.args.StandardRestore(wanted[name])) for name in wanted}
    params, opt_state = swap_average(read["network"]["params"], read["optimizer"])
    return TrainState(jnp.asarray(step, jnp.int32), params, read["network"]["batch_stats"], opt_state)


def load_network(
    workdir: str, step: int | None = None, warn: Callable[[str], None] = print_once
) -> tuple[int, dict, dict]:
    """Read the network of a workdir, whatever wrote it: (step, params, batch_stats), of numpy arrays.

    step: None takes the latest that is not damaged; a damaged one is named by `warn`. Nothing is written, so the
    training that writes the workdir may go on. Raises FileNotFoundError that lists the steps, and ValueError where the
    step, or every step, is damaged.
    """
    damaged = {}
    while True:
        steps = steps_of(workdir)
        wanted = [s for s in reversed(steps) if step in (None, s)]
        if not wanted:
            what = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise FileNotFoundError(f"{folder_of(workdir)}: {what}; the steps kept are {steps or 'none'}")
        chosen = next((s for s in wanted if s not in damaged), None)
        if chosen is None:
            raise ValueError("\n".join(damaged.values()) + f"\nThe steps of {workdir} are {steps}")
        folder = folder_of(workdir) / str(chosen)
        fault = _fault(folder / "network")
        if fault is None:
            try:
                network = _with_numbers(_read(folder / "network"))
            except Exception:
                if _is_going(folder):
                    continue
                raise
            return chosen, network["params"], network.get("batch_stats", {})
        if _is_going(folder):
            continue  # the training removed it while it was read
        damaged[chosen] = f"The checkpoint of step {chosen} is damaged: {fault}"
        if step is None and chosen != wanted[-1]:
            warn(f"{damaged[chosen]}. The one before it is used")


def set_damaged_aside(workdir: str, warn: Callable[[str], None] = print_once) -> int | None:
    """Find the latest checkpoint that is whole, rename later ones that are not to <step>.damaged, and return its step.

    Only for the training that owns the workdir. Returns None where there are no checkpoints; raises ValueError, and
    renames nothing, where all are damaged.
    """
    folder, faults = folder_of(workdir), {}
    for step in reversed(steps_of(workdir)):
        found = [_fault(folder / str(step) / item) for item in ("network", "optimizer")]
        if (folder / str(step) / "run" / CHECKSUMS).exists():
            found.append(_fault(folder / str(step) / "run"))
        faults[step] = next((fault for fault in found if fault), None)
        if faults[step] is None:
            break
    else:
        if faults:
            raise ValueError(
                "\n".join(f"The checkpoint of step {step} is damaged: {fault}" for step, fault in faults.items())
                + f"\nNo checkpoint of {workdir} can be used: give a new --workdir to train again"
            )
        return None
    good = min(faults)
    for path in folder.iterdir():  # a file in the place of a step would stop its save
        if path.name.isdigit() and not path.is_dir():
            path.rename(_unused(path))
    for step in faults.keys() - {good}:
        moved = (folder / str(step)).rename(_unused(folder / str(step)))
        warn(f"The checkpoint of step {step} is damaged: {faults[step]}. It is now {moved}; step {good} is used")
    return good


def steps_of(workdir: str) -> list[int]:
    """List the steps of a workdir's checkpoints, ascending."""
    folder = folder_of(workdir)
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def read_run(workdir: str, step: int) -> dict[str, Any]:
    """Read what a checkpoint says of its run; empty where it says nothing."""
    try:
        return json.loads((folder_of(workdir) / str(step) / "run" / "metadata").read_bytes())
    except (OSError, ValueError):
        return {}


def record_scores(workdir: str, step: int, metrics: dict[str, float]) -> None:
    """Remember the metrics of an evaluation, by which the best checkpoint is kept."""
    folder = folder_of(workdir)
    kept = {s: read_scores(folder.parent, s) for s in steps_of(workdir)} | {step: metrics}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SCORES, json.dumps({str(s): scores for s, scores in kept.items()}, indent=1) + "\n")


def read_scores(workdir: str | Path, step: int) -> dict[str, float]:
    """Read the metrics of a step's evaluation; empty where there was none."""
    folder = folder_of(workdir)
    try:
        scores = json.loads((folder / SCORES).read_bytes()).get(str(step))
        if scores is None:  # checkpoints of earlier versions hold their own
            scores = {"eval/rank1": json.loads((folder / str(step) / "metrics" / "metrics").read_bytes())["rank1"]}
        return {str(name): float(value) for name, value in scores.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def folder_of(workdir: str | Path) -> Path:
    """The folder of a workdir's checkpoints."""
    return Path(workdir).expanduser().resolve() / "checkpoints"


def _fault(item: Path) -> str | None:
    """Describe the damage of an item's folder; those of earlier versions, without checksums, are read on trial."""
    if not item.is_dir():
        return f"{item} is missing"
    try:
        return find_damage(item)
    except FileNotFoundError:
        try:
            _read(item)
        except Exception as error:  # whatever orbax and tensorstore raise at damaged files
            return f"{item} can't be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        return None


def _is_going(folder: Path) -> bool:
    """Whether the folder of a step that could not be read is being removed."""
    if folder.exists():
        time.sleep(0.5)
    return not folder.exists()


def _unused(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged{suffix}") for suffix in ("", *(f"-{i}" for i in range(2, 1000))))
    return next(name for name in names if not name.exists())


def _tree_of(item: Any) -> Any:
    """The arrays of an item's folder, by their shapes alone."""
    return ocp.PyTreeCheckpointHandler().metadata(item).tree


def _read(item: Any) -> Any:
    """Read all arrays of an item's folder to the memory of this process, whatever devices wrote them."""
    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), _tree_of(item))
    return ocp.PyTreeCheckpointHandler().restore(item, args=ocp.args.PyTreeRestore(restore_args=arguments))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def _with_numbers(tree: Any) -> Any:
    """Turn the places of a list, which orbax reads back as text, into numbers: {"0": ...} -> {0: ...}."""
    if not isinstance(tree, dict):
        return tree
    return {int(k) if isinstance(k, str) and k.isdigit() else k: _with_numbers(v) for k, v in tree.items()}
