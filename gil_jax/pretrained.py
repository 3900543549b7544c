"""Start from the network of another workdir (`config.init_from`)."""

from typing import Any

import jax
import jax.numpy as jnp

from gil_jax.checkpoint import load_network


def load_pretrained(workdir: str, params: Any, batch_stats: Any) -> tuple[Any, Any, int, list[str]]:
    """Load the network of another workdir: (params, batch_stats, its step, names newly initialised).

    An array is loaded where name and shape agree. One that only the new network has, and a classifier of other classes,
    stay as they were initialised. Raises ValueError that lists any other array that does not fit.
    """
    step, *found = load_network(workdir)
    theirs = _named(found)
    initialised, wrong, loaded = [], [], []
    for name, ours in _named((params, batch_stats)).items():
        old = theirs.pop(name, None)
        if old is None or (old.shape != ours.shape and "classifier" in name):
            initialised.append(name)
            loaded.append(ours)
        elif old.shape != ours.shape:
            wrong.append(f"  {name}: {tuple(old.shape)} there, {tuple(ours.shape)} here")
        else:
            loaded.append(jnp.asarray(old, ours.dtype))
    wrong += [f"  {name}: {tuple(old.shape)} there, not in this network" for name, old in theirs.items()]
    if wrong or len(initialised) == len(loaded):
        raise ValueError(
            f"config.init_from={workdir!r} (step {step}) does not fit config.model:\n" + "\n".join(wrong or initialised)
        )
    params, batch_stats = jax.tree.unflatten(jax.tree.structure((params, batch_stats)), loaded)
    return params, batch_stats, step, initialised


def _named(tree: Any) -> dict[str, Any]:
    return {"".join(map(str, path[1:])): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
