"""The evaluation of a network on the test people of a data set."""

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.data.dataset import Dataset
from gil_jax.data.lookups import names_of, rows_of_protocol
from gil_jax.evaluation.distances import check_finite
from gil_jax.evaluation.embedding import embed_split, make_embed, make_energy_images
from gil_jax.evaluation.measures import headline
from gil_jax.evaluation.report import evaluate_table
from gil_jax.evaluation.submission import submission
from gil_jax.train_state import Network, TrainState
from gil_jax.types import EmbeddingTable


class Evaluator:
    """Embeds the test people and ranks probes against the gallery.

    Programs are compiled and gait energy images computed once, at the first `run`. rows: the sequences that are
    embedded, of the people tested and of distractors. After `run`: submission, the CSV of probes without labels, None
    where there are none; table, the embeddings where they are smaller than `config.eval.keep_embeddings`, else None.
    """

    def __init__(self, network: Network, dataset: Dataset, config: ConfigDict, mesh: Mesh):
        self.dataset, self.config, self.mesh = dataset, config, mesh
        split, table = dataset.split, dataset.source.table
        self.rows = rows_of_protocol(dataset.protocol, split.test, split.train, table)
        self._embed = make_embed(network, mesh)
        self._energy: EmbeddingTable | None = None
        self.submission: str | None = None
        self.table: EmbeddingTable | None = None

    def embed(self, state: TrainState) -> EmbeddingTable:
        """Embed the sequences `rows` by a state; raises ValueError that names those that are not finite."""
        embeddings = embed_split(
            lambda *batch: self._embed(state.params, state.batch_stats, *batch),
            self.mesh,
            self.dataset.source,
            self.rows,
            self.config.eval,
        )
        check_finite(embeddings.embeddings, names_of(embeddings, np.arange(len(self.rows))))
        return embeddings

    def run(self, state: TrainState) -> dict:
        """Evaluate a state: {"dataset", "split", "step", and the rest of `evaluate_table`}."""
        limits = self.config.eval
        table = self.embed(state)
        size = 4 * int(np.prod(table.embeddings.shape))
        self.table = table if size < limits.get("keep_embeddings", 0) * 2**20 else None
        if self._energy is None:
            energy = make_energy_images(self.mesh)
            self._energy = embed_split(energy, self.mesh, self.dataset.source, self.rows, limits, "energy")
        rerank = tuple(limits.get("rerank", ())) or None
        report = evaluate_table(table, self._energy, self.dataset.protocol, limits.metric, rerank)
        self.submission = submission(table, self.dataset.protocol, limits.metric, rerank)
        return {
            "dataset": self.config.data.name,
            "split": self.dataset.split.name,
            "step": int(jax.device_get(state.step)),
            **report,
        }

    @staticmethod
    def metrics(report: dict) -> dict[str, float]:
        """Rank-1 of every probe set under the names of metrics.jsonl, and their mean as "eval/rank1" (percent).

        The mean is of the quoted numbers: without identical views where views are compared with views.
        """
        named = {
            f"eval/{name}/{which}": summary[which]
            for name, summary in report["rank1"].items()
            for which in ("excluding_identical_view", "including_identical_view")
            if summary[which] is not None
        }
        quoted = [value for value in map(headline, report["rank1"].values()) if value is not None]
        return named | ({"eval/rank1": float(np.mean(quoted))} if quoted else {})
