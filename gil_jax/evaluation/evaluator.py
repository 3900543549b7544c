"""The evaluation of a network on the test people of a data set."""

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gil_jax.data.dataset import Dataset
from gil_jax.evaluation.embedding import embed_split, make_embed, make_energy_images
from gil_jax.evaluation.report import evaluate_table
from gil_jax.train_state import Network, TrainState
from gil_jax.types import EmbeddingTable


class Evaluator:
    """Embeds the test people and ranks probes against the gallery.

    Programs are compiled and gait energy images computed once, at the first `run`.
    """

    def __init__(self, network: Network, dataset: Dataset, config: ConfigDict, mesh: Mesh):
        self.dataset, self.config, self.mesh = dataset, config, mesh
        self.rows = np.flatnonzero(np.isin(dataset.source.table.subjects, dataset.split.test))
        self._embed = make_embed(network, mesh)
        self._energy: EmbeddingTable | None = None

    def run(self, state: TrainState) -> dict:
        """Evaluate a state: {"dataset", "split", "step", and the rest of `evaluate_table`}."""
        source, limits = self.dataset.source, self.config.eval
        if self._energy is None:
            self._energy = embed_split(make_energy_images(self.mesh), self.mesh, source, self.rows, limits, "energy")
        table = embed_split(
            lambda *batch: self._embed(state.params, state.batch_stats, *batch), self.mesh, source, self.rows, limits
        )
        return {
            "dataset": self.config.data.name,
            "split": self.dataset.split.name,
            "step": int(jax.device_get(state.step)),
            **evaluate_table(table, self._energy, self.dataset.protocol, limits.metric),
        }

    @staticmethod
    def metrics(report: dict) -> dict[str, float]:
        """Rank-1 of every probe set under the names of metrics.jsonl, and their mean as "eval/rank1" (percent)."""
        named = {
            f"eval/{name}/{which}": summary[which]
            for name, summary in report["rank1"].items()
            for which in ("excluding_identical_view", "including_identical_view")
            if summary[which] is not None
        }
        excluding = [value for name, value in named.items() if name.endswith("/excluding_identical_view")]
        return named | ({"eval/rank1": float(np.mean(excluding))} if excluding else {})
