"""Checkpoints of a workdir, kept by orbax: written aside, renamed when whole, the latest and the best kept."""

from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from gil_jax.train_state import TrainState

SCORE = "rank1"


def open_checkpoints(workdir: str, keep_latest: int = 2) -> ocp.CheckpointManager:
    """The checkpoints under <workdir>/checkpoints: the latest `keep_latest` stay, and the best by rank-1."""
    options = ocp.CheckpointManagerOptions(
        best_fn=lambda metrics: metrics[SCORE],
        preservation_policy=policies.AnyPreservationPolicy(
            [
                policies.LatestN(keep_latest),
                policies.BestN(
                    n=1, get_metric_fn=lambda metrics: metrics[SCORE], keep_checkpoints_without_metrics=False
                ),
            ]
        ),
        cleanup_tmp_directories=True,
    )
    handlers = {"network": ocp.StandardCheckpointHandler(), "optimizer": ocp.StandardCheckpointHandler()}
    return ocp.CheckpointManager(_folder(workdir), options=options, item_handlers=handlers)


def save(manager: ocp.CheckpointManager, state: TrainState, score: float | None = None) -> None:
    """Write a checkpoint of state.step in the background; score: its mean rank-1 in percent, if it was evaluated."""
    items = {"network": ocp.args.StandardSave({"params": state.params, "batch_stats": state.batch_stats})}
    if state.opt_state is not None:
        items["optimizer"] = ocp.args.StandardSave(state.opt_state)
    metrics = None if score is None else {SCORE: score}
    manager.save(int(state.step), args=ocp.args.Composite(**items), metrics=metrics, force=True)


def restore(manager: ocp.CheckpointManager, step: int, like: TrainState) -> TrainState:
    """Read a checkpoint back; like: the state's shapes, dtypes and layouts (jax.ShapeDtypeStruct)."""
    items = {
        "network": ocp.args.StandardRestore({"params": like.params, "batch_stats": like.batch_stats}),
        "optimizer": ocp.args.StandardRestore(like.opt_state),
    }
    read = manager.restore(step, args=ocp.args.Composite(**items))
    return TrainState(
        jnp.asarray(step, jnp.int32), read["network"]["params"], read["network"]["batch_stats"], read["optimizer"]
    )


def restore_network(workdir: str, step: int | None = None) -> tuple[int, dict, dict]:
    """The network of a checkpoint as it was saved, whoever wrote it: (step, params, batch_stats).

    step: None takes the latest. Raises FileNotFoundError that lists the steps there are.
    """
    folder = _folder(workdir)
    steps = []
    if folder.is_dir():
        manager = open_checkpoints(workdir)
        steps = sorted(manager.all_steps())
    if not steps or (step is not None and step not in steps):
        wanted = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise FileNotFoundError(f"{folder}: {wanted}; the steps kept are {steps or 'none'}")
    step = steps[-1] if step is None else step
    read = manager.restore(step, args=ocp.args.Composite(network=ocp.args.StandardRestore()))
    manager.close()
    network = _with_numbers(read["network"])
    return step, network["params"], network.get("batch_stats", {})


def _folder(workdir: str) -> Path:
    return Path(workdir).expanduser().resolve() / "checkpoints"


def _with_numbers(tree):
    """Orbax reads the places of a list back as text: {"0": ...} -> {0: ...}."""
    if not isinstance(tree, dict):
        return tree
    return {int(k) if isinstance(k, str) and k.isdigit() else k: _with_numbers(v) for k, v in tree.items()}


def load_pretrained(workdir: str, params: dict, batch_stats: dict) -> tuple[dict, dict, list[str]]:
    """Load the network of another workdir (`config.init_from`): (params, batch_stats, names newly initialised).

    An array is taken where name and shape agree. One that only the new network has, and a classifier of other
    classes, stay as they were initialised. Raises ValueError that lists any other array that does not fit.
    """
    step, *found = restore_network(workdir)
    theirs = dict(_named(found))
    fresh, wrong, taken = [], [], []
    for name, ours in _named((params, batch_stats)):
        old = theirs.pop(name, None)
        if old is None or (old.shape != ours.shape and "classifier" in name):
            fresh.append(name)
            taken.append(ours)
        elif old.shape != ours.shape:
            wrong.append(f"  {name}: {tuple(old.shape)} there, {tuple(ours.shape)} here")
        else:
            taken.append(jnp.asarray(old, ours.dtype))
    wrong += [f"  {name}: {tuple(old.shape)} there, not in this network" for name, old in theirs.items()]
    if wrong or len(fresh) == len(taken):
        raise ValueError(
            f"config.init_from={workdir!r} (step {step}) does not fit config.model:\n" + "\n".join(wrong or fresh)
        )
    params, batch_stats = jax.tree.unflatten(jax.tree.structure((params, batch_stats)), taken)
    return params, batch_stats, fresh


def _named(tree) -> list:
    return [("".join(map(str, path[1:])), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
