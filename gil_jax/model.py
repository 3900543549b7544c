"""A trained network that embeds silhouettes, from a workdir or from an exported file."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8
from ml_collections import ConfigDict

from gil_jax.checkpoint import load_network
from gil_jax.checks import check_arrays, check_weights
from gil_jax.data.lookups import names_of
from gil_jax.data.source import SequenceTable
from gil_jax.evaluation.distances import check_finite
from gil_jax.evaluation.embedding import Allocate, Sequences, embed_split, make_embed
from gil_jax.people import ancestors_of
from gil_jax.raw_sequences import ArraySequences, align, describe_left_out
from gil_jax.sharding import make_mesh, replicated
from gil_jax.train_state import Network, make_network
from gil_jax.types import EmbeddingTable, RowsOf
from gil_jax.workdir import read_workdir

FEWEST_FRAMES = 8  # that a sequence is padded to


class Model:
    """A network that turns silhouettes into embeddings.

    about: "network", a fingerprint of its config and weights; "network_name", "step"; "height", rows of its aligned
    silhouettes, 64 or 128; "trained", who trained it, see `people.ancestors_of`; "protocol" and "split" of its workdir,
    empty where it says nothing.
    """

    def __init__(self, embed: Callable, about: dict):
        self._embed, self.about = embed, about

    @property
    def height(self) -> int:
        """Rows of the aligned silhouettes: 64 or 128."""
        return self.about["height"]

    @property
    def fingerprint(self) -> str:
        """Embeddings can be compared where it is the same."""
        return self.about["network"]

    def embed(self, sequences: Sequence[UInt8[np.ndarray, "_ _ _"]]) -> Float[np.ndarray, "n p d"]:
        """Embed silhouettes, raw or aligned, of any lengths: uint8 [s, h, w] each -> float32 [n, p, d].

        Raises ValueError that names a sequence without a frame in which a person is seen, or whose embedding is not
        finite.
        """
        aligned = [align(sequence, self.height, f"sequence {i}") for i, sequence in enumerate(sequences)]
        return self.embed_source(ArraySequences(aligned, self.height)).embeddings[:]

    def embed_source(
        self,
        source: Sequences,
        rows: Int[np.ndarray, " n"] | None = None,
        allocate: Allocate = lambda shape: np.zeros(shape, np.float32),
        progress: bool = False,
    ) -> EmbeddingTable:
        """Embed the sequences `rows` (default: all) of a source, without those that turn out to show nobody.

        allocate: see `embed_split`. Raises ValueError that names embeddings that are not finite.
        """
        rows = np.arange(len(source.table.lengths)) if rows is None else rows
        limits = ConfigDict({"frames_per_batch": 2048, "length_buckets": 4})
        found = embed_split(
            self._embed, make_mesh(), _Padded(source), rows, limits, allocate=allocate, progress=progress
        )
        kept = np.flatnonzero(~np.isin(rows, sorted(getattr(source, "left_out", ()))))
        if len(kept) < len(rows):
            if not len(kept):
                said = "; ".join(describe_left_out(source))
                raise ValueError(f"no sequence is left; a silhouette is a white body (255) on black ({said})")
            found = EmbeddingTable(RowsOf(found.embeddings, kept), *(column[kept] for column in found[1:]))
        check_finite(found.embeddings, names_of(found, np.arange(len(kept))))
        return found


class _Padded:
    """A source whose lengths are rounded up, so that few shapes are compiled whatever the data."""

    def __init__(self, source: Sequences):
        self._source, self.height = source, source.height
        # 8, 12, 16, 24, 32, 48, ...: padding adds a half at most.
        steps = np.array([FEWEST_FRAMES * 2**i * f // 2 for i in range(24) for f in (2, 3)])
        table = source.table
        lengths = steps[np.searchsorted(steps, table.lengths)]
        self.table = SequenceTable(table.subjects, table.conditions, table.views, lengths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]:
        return self._source[index]


def load(path: str | os.PathLike, step: int | None = None, height: int | None = None) -> Model:
    """Load a model from a workdir (the latest checkpoint, or `step`), or from a file that `gil_jax export` wrote.

    height: of its silhouettes, where the workdir does not say it (a converted checkpoint); 64 by default. Raises
    FileNotFoundError or ValueError that names what is missing.
    """
    if Path(path).is_file():
        from gil_jax.exported import load_exported

        return load_exported(path)
    workdir = str(path)
    network, weights, about = open_network(workdir, step, height)

    @cache
    def jitted() -> Callable:
        """Start the devices at the first use, and bring the weights to all of them, whichever wrote them."""
        mesh = make_mesh()
        return partial(make_embed(network, mesh), *jax.device_put(weights, replicated(mesh)))

    return Model(lambda *batch: jitted()(*batch), about)


def open_network(
    workdir: str, step: int | None = None, height: int | None = None, **fields: str
) -> tuple[Network, tuple, dict]:
    """Read the network of a workdir: (network, (params, batch_stats) of numpy arrays, `about` of a Model).

    fields: of config.model, other than the workdir has them. Raises as `load` does.
    """
    saved = read_workdir(workdir).config
    if saved is None:
        raise FileNotFoundError(f"{workdir}: no config.json, so no workdir of a run, and no exported file either")
    step, params, batch_stats = load_network(workdir, step)
    network = make_network(_tuples(saved["model"] | fields))
    check_arrays(workdir, network, (params, batch_stats))
    weights = jax.tree.map(np.asarray, (params, batch_stats))
    check_weights(workdir, weights)
    data = saved.get("data", {})
    about = {
        "network": fingerprint_of(saved["model"], weights),
        "network_name": saved["model"]["name"],
        "step": step,
        "height": height or data.get("height", 64),
        "trained": ancestors_of(workdir),
        "protocol": absolute(data.get("protocol", "")),
        "split": absolute(data.get("split", "")),
    }
    return network, weights, about


def absolute(spec: str) -> str:
    """Name a protocol or split by the full path of its file, where it is one ("gait3d:Gait3D.json" too)."""
    name, colon, file = spec.rpartition(":")
    return f"{name}{colon}{Path(file).absolute()}" if Path(file).is_file() else spec


def _tuples(value: Any) -> Any:
    """Turn the lists of a JSON file into the tuples that they were."""
    if isinstance(value, dict):
        return {name: _tuples(member) for name, member in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def fingerprint_of(model_config: dict, weights: Any) -> str:
    """Hash the config and the weights of a network."""
    digest = hashlib.sha256(json.dumps(model_config, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]
