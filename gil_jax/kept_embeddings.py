"""Embeddings of an evaluation, kept next to its report: maps, errors and comparisons are made from them."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gil_jax.data.dataset import Dataset
from gil_jax.data.lookups import Protocol, Submission
from gil_jax.evaluation.store import save_embeddings
from gil_jax.model import absolute, fingerprint_of
from gil_jax.people import ancestors_of
from gil_jax.train_state import TrainState
from gil_jax.types import EmbeddingTable

# What a published data set should hold: nothing of it is needed to rank embeddings.
_EXPECTED = ("views", "conditions", "subjects", "splits")


def keep_embeddings(
    report: Path, table: EmbeddingTable, state: TrainState, config: ConfigDict, dataset: Dataset
) -> Path | None:
    """Write the embeddings of an evaluation next to its report, as `python -m gil_jax evaluate` reads them.

    report: the JSON file <workdir>/eval/<...>-<step>.json. Those of earlier steps of the same evaluation are removed.
    Returns the file, or None where the network is sharded over several processes. Raises OSError.
    """
    weights = (state.params, state.batch_stats)
    arrays = [leaf for leaf in jax.tree.leaves(weights) if isinstance(leaf, jax.Array)]
    if not all(array.is_fully_addressable or array.is_fully_replicated for array in arrays):
        return None
    weights = jax.tree.map(np.asarray, weights)
    workdir, path = report.parent.parent, report.with_suffix(".npz")
    model = json.loads(config.model.to_json())
    about = {
        "network": fingerprint_of(model, weights),
        "network_name": model["name"],
        "step": int(state.step),
        "height": config.data.height,
        "trained": ancestors_of(str(workdir)),
        "data": dataset.source.fingerprint,
        "dtype": "float32",
        "kind": "embeddings",
        "dataset": config.data.name,
        "protocol": absolute(config.data.protocol),
        "comparison": protocol_fields(dataset.protocol),
    }
    save_embeddings(path, table, table.embeddings, about)
    for earlier in _earlier(path):
        earlier.unlink(missing_ok=True)
    return path


def protocol_fields(protocol: Protocol) -> dict[str, Any]:
    """Write how a protocol compares, as what JSON can hold."""
    fields = dataclasses.asdict(protocol)
    return {name: fields[name] for name in fields if name not in _EXPECTED}


def protocol_of(fields: dict[str, Any]) -> Protocol:
    """Read what `protocol_fields` wrote."""
    values = {name: _tuples(value) for name, value in fields.items()}
    values["submission"] = Submission(**values["submission"])
    return Protocol(**values)


def _earlier(path: Path) -> Iterator[Path]:
    """Find the files of the same evaluation at earlier steps."""
    start, _, step = path.stem.rpartition("-")
    for other in path.parent.glob("*.npz"):
        beginning, _, number = other.stem.rpartition("-")
        if beginning == start and number.isdecimal() and int(number) < int(step):
            yield other


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(member) for name, member in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
