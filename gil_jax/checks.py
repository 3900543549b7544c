"""Checks of a config, all before the first step; every message names the field and the fix."""

import math
import os
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.data.dataset import Dataset
from gil_jax.sharding import DATA
from gil_jax.train_state import Network
from gil_jax.training import batch_size

# What the numbers of a config may be: field -> the least value. Every other number has to be finite.
LEAST = {
    "data.subjects_per_batch": 1,
    "data.sequences_per_subject": 1,
    "data.skip": 0,
    "data.workers": 0,
    "eval.length_buckets": 1,
    "eval.frames_limit": 0,
    "eval.frames_per_batch": 1,
    "eval.keep_embeddings": 0,
    "optim.accumulate": 1,
    "optim.average_decay": 0,
    "optim.clip_norm": 0,
    "optim.learning_rate": 0,
    "optim.min_learning_rate": 0,
    "optim.momentum": 0,
    "optim.weight_decay": 0,
    "optim.total_steps": 0,
    "optim.warmup_steps": 0,
    "optim.warmup_rate": 0,
    "sharding.model_devices": 1,
    "train.steps": 0,
    "train.log_every": 0,
    "train.checkpoint_every": 0,
    "train.eval_every": 0,
    "train.keep_checkpoints": 1,
    "train.pictures_every": 0,
    "train.skip_limit": 0,
}
CHOICES = {
    "data.cache": ("", "memmap"),
    "data.order": ("unordered", "ordered"),
    "eval.metric": ("euclidean", "cosine"),
    "optim.optimizer": ("sgd", "adam", "adamw"),
    "optim.schedule": ("steps", "cosine"),
    "train.on_full_disk": ("stop", "continue"),
    "train.wandb.mode": ("online", "offline"),
}


def check_config(config: ConfigDict, workdir: str) -> None:
    """Check every field by itself. Raises ValueError that lists all fields that can't be used."""
    values = flatten(config.to_dict())
    wrong = []
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            wrong.append(f"config.{name}={value}: give a finite number")
        elif name in LEAST and not value >= LEAST[name]:
            wrong.append(f"config.{name}={value}: give {LEAST[name]} or more")
        elif name in CHOICES and value not in CHOICES[name]:
            wrong.append(f"config.{name}={value!r}: choose one of {', '.join(map(repr, CHOICES[name]))}")
    if config.optim.average_decay >= 1:
        wrong.append(f"config.optim.average_decay={config.optim.average_decay}: give a number below 1, e.g. 0.999")
    profile = config.train.profile
    if profile and not (len(profile) == 2 and 0 < profile[0] <= profile[1]):
        wrong.append(f"config.train.profile={profile}: give (first step, last step), e.g. (10, 20), or ()")
    rerank = config.eval.rerank
    if rerank and not (len(rerank) == 3 and min(rerank[:2]) >= 1 and 0 <= rerank[2] <= 1):
        wrong.append(f"config.eval.rerank={rerank}: give (k1, k2, lambda), e.g. (6, 6, 0.3), or ()")
    if unknown := [name for name in config.train.accept_changes if name not in values]:
        wrong.append(f"config.train.accept_changes: {', '.join(unknown)} is no field of the config")
    if config.train.wandb.project and not _is_installed("wandb"):
        wrong.append(
            f"config.train.wandb.project={config.train.wandb.project!r} needs the package wandb: "
            "pip install -e .[wandb], or leave it empty"
        )
    folders = {
        "--workdir": workdir,
        "config.data.dir": config.data.dir,
        "config.init_from": config.init_from,
        "$TFDS_DATA_DIR": "" if config.data.dir else os.environ.get("TFDS_DATA_DIR", ""),
    }
    for name, folder in folders.items():
        if "://" in folder:
            wrong.append(f"{name}={folder}: give a folder of a disk that every host sees, not an address")
    if wrong:
        raise ValueError("\n".join(wrong))


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module that is blocked
        return False


def check_batch(config: ConfigDict, dataset: Dataset, mesh: Mesh) -> None:
    """Raise ValueError unless batch, split, loss and mesh fit together."""
    people = len(dataset.rows_of_subject)
    wanted = config.data.subjects_per_batch
    if not people:
        raise ValueError(
            f"config.data.split={config.data.split!r} trains nobody of {dataset.source.path}: choose another"
        )
    if people < wanted:
        raise ValueError(
            f"config.data.subjects_per_batch={wanted}, but the split {dataset.split.name} trains {people} people: "
            f"lower it to {people} or less, or choose another config.data.split"
        )
    if 0 < config.model.get("num_classes", 0) < people:
        raise ValueError(
            f"config.model.num_classes={config.model.num_classes}, but the split {dataset.split.name} trains {people} "
            f"people: set it to {people}"
        )
    pairwise = [name for name, term in config.loss.items() if name != "cross_entropy" and term.get("weight", 1.0)]
    if wanted < 2 and len(pairwise) == len(config.loss):
        raise ValueError(
            "config.data.subjects_per_batch=1 with pairwise losses alone: they compare people, so there is nothing to "
            "train: give 2 or more"
        )
    pieces = config.optim.accumulate
    if wanted % pieces:
        raise ValueError(
            f"config.data.subjects_per_batch={wanted} people can't be shared evenly by config.optim.accumulate={pieces}"
            f" pieces: make it a multiple of {pieces}"
        )
    shared, batch = mesh.shape[DATA], batch_size(config)
    if batch % shared:
        raise ValueError(
            f"config.data.subjects_per_batch * sequences_per_subject = {batch} sequences cannot be shared evenly by "
            f"{shared} devices: make the product a multiple of {shared}"
        )


def check_arrays(workdir: str, network: Network, found: tuple) -> None:
    """Raise ValueError that lists what differs unless a checkpoint holds the arrays of the network.

    found: (params, batch_stats) of the checkpoint in `workdir`.
    """
    wanted = jax.eval_shape(lambda: network.init(0))
    shapes = [
        {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (wanted, found)
    ]
    names = sorted(shapes[0].keys() | shapes[1].keys())
    wrong = [n for n in names if shapes[0].get(n) != shapes[1].get(n)]
    if wrong:
        lines = [f"  {n}: {shapes[1].get(n, 'missing')} there, {shapes[0].get(n, 'nothing')} wanted" for n in wrong]
        raise ValueError(f"The checkpoint in {workdir} does not fit config.model:\n" + "\n".join(lines))


def check_weights(place: str, weights: tuple) -> None:
    """Raise ValueError that names the arrays of (params, batch_stats) that hold NaN or infinity; place: their file."""
    wrong = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
        if not np.isfinite(np.asarray(leaf, np.float32)).all()
    ]
    if wrong:
        raise ValueError(
            f"{place}: {len(wrong)} arrays of the network are not finite (NaN or infinity): {', '.join(wrong[:8])}. "
            "Take another checkpoint"
        )


def flatten(tree: object, prefix: str = "") -> dict[str, Any]:
    """Nested dicts -> {"data.height": 64, ...}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    below = [flatten(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items()]
    return {name: value for fields in below for name, value in fields.items()}
