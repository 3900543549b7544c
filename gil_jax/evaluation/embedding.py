"""The embeddings of sequences, computed in batches of mixed lengths on all devices."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from gil_jax.data.loader import eval_batches, plan_eval_batches
from gil_jax.data.source import SequenceTable
from gil_jax.sharding import DATA, local_rows, replicated, sharded_over_data, to_devices
from gil_jax.train_state import Network
from gil_jax.types import EmbeddingTable

Allocate = Callable[[tuple[int, ...]], np.ndarray]


@runtime_checkable
class Sequences(Protocol):
    """Aligned sequences with their labels: source[i] -> uint8 [s, height, height]; a built data set, or files."""

    height: int

    @property
    def table(self) -> SequenceTable: ...  # noqa: D102

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s h h"]: ...


def make_embed(network: Network, mesh: Mesh) -> Callable[..., Float[Array, "n p d"]]:
    """Jit embed(params, batch_stats, silhouettes, frame_mask) -> embeddings float32 [n, p, d], replicated.

    It is compiled once for every shape of a batch.
    """

    def embed(
        params: Any, batch_stats: Any, silhouettes: UInt8[Array, "n s h w"], frame_mask: Bool[Array, "n s"]
    ) -> Float[Array, "n p d"]:
        return network.embed(params, batch_stats, silhouettes, frame_mask).embeddings

    return jax.jit(embed, out_shardings=replicated(mesh))


def make_energy_images(mesh: Mesh) -> Callable[..., Float[Array, "n 1 pixels"]]:
    """Jit `energy_images` with a replicated result."""
    return jax.jit(energy_images, out_shardings=replicated(mesh))


def energy_images(silhouettes: UInt8[Array, "n s h w"], frame_mask: Bool[Array, "n s"]) -> Float[Array, "n 1 pixels"]:
    """Gait energy images (Han and Bhanu, TPAMI 2006), the mean silhouette: float32 [n, 1, h * w] in 0 .. 1."""
    weight = frame_mask.astype(jnp.float32)
    total = jnp.einsum("nshw,ns->nhw", silhouettes.astype(jnp.float32), weight)
    mean = total / (255.0 * jnp.sum(weight, axis=1)[:, None, None])
    return mean.reshape(len(mean), 1, -1)


def embed_split(
    embed: Callable,
    mesh: Mesh,
    source: Sequences,
    rows: Int[np.ndarray, " n"],
    limits: ConfigDict,
    shown: str = "embed",
    allocate: Allocate = lambda shape: np.zeros(shape, np.float32),
    progress: bool = True,
) -> EmbeddingTable:
    """Embed the sequences `rows` of a source.

    embed: (silhouettes, frame_mask) -> [n, p, d], as from `make_embed` with params and batch_stats bound. limits:
    `config.eval`. shown: label of the progress bar. allocate: shape -> the array that the embeddings are written to,
    e.g. a memory-mapped one. progress: show a bar. Raises ValueError without sequences.
    """
    if not len(rows):
        raise ValueError("there are no sequences to embed")
    table, shards = source.table, mesh.shape[DATA]
    lengths = _limited(table.lengths[rows], limits.get("frames_limit", 0))
    plan = plan_eval_batches(lengths, limits.frames_per_batch, shards, limits.length_buckets)

    def slots_of(n: int) -> Int[np.ndarray, " m"]:
        return np.arange(n) if n % shards else local_rows(mesh, n)

    batches = eval_batches(source, [batch._replace(rows=rows[batch.rows]) for batch in plan], slots_of)
    result: Shaped[np.ndarray, "n p d"] | None = None
    with tqdm(total=len(rows), desc=shown, unit="seq", disable=not progress or jax.process_index() > 0) as bar:
        for (picked, n, _), batch in zip(plan, batches, strict=True):
            # A sequence that is alone is computed by every device, which costs no more time than by one of them.
            layout = replicated(mesh) if n % shards else sharded_over_data(mesh)
            output = np.asarray(embed(*to_devices((layout, layout), n, (batch.silhouettes, batch.frame_mask))))
            if result is None:
                result = allocate((len(rows), *output.shape[1:]))
            result[picked] = output[: len(picked)]
            bar.update(len(picked))
    assert result is not None
    return EmbeddingTable(result, table.subjects[rows], table.conditions[rows], table.views[rows])


def _limited(lengths: Int[np.ndarray, " n"], limit: int) -> Int[np.ndarray, " n"]:
    """Limit the frames of every sequence, and print how many sequences that shortens."""
    longer = np.sum(lengths > limit)
    if not limit or not longer:
        return lengths
    if jax.process_index() == 0:
        tqdm.write(f"{longer} sequences are longer than config.eval.frames_limit={limit}: their first frames are used")
    return np.minimum(lengths, limit)
