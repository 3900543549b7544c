"""The embeddings of a split, computed in batches of mixed lengths on all devices."""

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from gil_jax.data.loader import eval_batches, plan_eval_batches
from gil_jax.sharding import local_rows, over_batch, replicated, to_devices
from gil_jax.train_state import Network
from gil_jax.types import EmbeddingTable


def make_embed(network: Network, mesh):
    """embed(params, batch_stats, silhouettes, frame_mask) -> (embeddings [n, p, d], energy images [n, 1, h * w]).

    Compiled once for every shape of a batch; the results are whole on every process.
    """

    def embed(params, batch_stats, silhouettes, frame_mask):
        embeddings = network.embed(params, batch_stats, silhouettes, frame_mask).embeddings
        return embeddings, energy_images(silhouettes, frame_mask)

    return jax.jit(embed, out_shardings=replicated(mesh))


def energy_images(silhouettes, frame_mask):
    """Gait energy images (Han and Bhanu, TPAMI 2006), the mean silhouette: float32 [n, 1, h * w] in 0 .. 1."""
    weight = frame_mask.astype(jnp.float32)
    total = jnp.einsum("nshw,ns->nhw", silhouettes.astype(jnp.float32), weight)
    mean = total / (255.0 * jnp.sum(weight, axis=1)[:, None, None])
    return mean.reshape(len(mean), 1, -1)


def embed_split(embed, mesh, source, rows: np.ndarray, config):
    """Embed the sequences `rows` of a source: two EmbeddingTables, of the network and of the energy images.

    embed: from make_embed, with params and batch_stats bound; config: `config.eval`.
    """
    table = source.table
    plan = plan_eval_batches(table.lengths[rows], config.frames_per_batch, mesh.shape["data"], config.length_buckets)
    batches = eval_batches(source, [(rows[picked], n, s) for picked, n, s in plan], lambda n: local_rows(mesh, n))
    cut, results = over_batch(mesh), None
    with tqdm(total=len(rows), desc="embed", unit="seq", disable=jax.process_index() > 0) as bar:
        for (picked, n, _), batch in zip(plan, batches, strict=True):
            outputs = embed(*to_devices((cut, cut), n, (batch.silhouettes, batch.frame_mask)))
            outputs = [np.asarray(x)[: len(picked)] for x in outputs]
            if results is None:
                results = [np.zeros((len(rows), *x.shape[1:]), np.float32) for x in outputs]
            for result, output in zip(results, outputs, strict=True):
                result[picked] = output
            bar.update(len(picked))
    labels = (table.subjects[rows], table.conditions[rows], table.views[rows])
    return [EmbeddingTable(result, *labels) for result in results]
