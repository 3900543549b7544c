"""The embeddings of a split, computed in batches of mixed lengths on all devices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, UInt8
from ml_collections import ConfigDict
from tqdm import tqdm

from gil_jax.data.loader import eval_batches, plan_eval_batches
from gil_jax.data.source import SilhouetteSource
from gil_jax.sharding import DATA, local_rows, replicated, sharded_over_data, to_devices
from gil_jax.train_state import Network
from gil_jax.types import EmbeddingTable


def make_embed(network: Network, mesh: Mesh) -> Callable:
    """embed(params, batch_stats, silhouettes, frame_mask) -> embeddings float32 [n, p, d], replicated.

    Compiled once for every shape of a batch.
    """

    def embed(params, batch_stats, silhouettes, frame_mask):
        return network.embed(params, batch_stats, silhouettes, frame_mask).embeddings

    return jax.jit(embed, out_shardings=replicated(mesh))


def make_energy_images(mesh: Mesh) -> Callable:
    """`energy_images`, jitted, with a replicated result."""
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
    source: SilhouetteSource,
    rows: Int[np.ndarray, " n"],
    limits: ConfigDict,
    shown: str = "embed",
) -> EmbeddingTable:
    """Embed the sequences `rows` of a source.

    embed: (silhouettes, frame_mask) -> [n, p, d], as from `make_embed` with params and batch_stats bound. limits:
    `config.eval`. shown: the word beside the progress bar.
    """
    table = source.table
    plan = plan_eval_batches(table.lengths[rows], limits.frames_per_batch, mesh.shape[DATA], limits.length_buckets)
    batches = eval_batches(source, [(rows[picked], n, s) for picked, n, s in plan], lambda n: local_rows(mesh, n))
    layout, result = sharded_over_data(mesh), None
    with tqdm(total=len(rows), desc=shown, unit="seq", disable=jax.process_index() > 0) as bar:
        for (picked, n, _), batch in zip(plan, batches, strict=True):
            output = np.asarray(embed(*to_devices((layout, layout), n, (batch.silhouettes, batch.frame_mask))))
            if result is None:
                result = np.zeros((len(rows), *output.shape[1:]), np.float32)
            result[picked] = output[: len(picked)]
            bar.update(len(picked))
    assert result is not None, "no sequences"
    return EmbeddingTable(result, table.subjects[rows], table.conditions[rows], table.views[rows])
