"""Workdirs made without a training: all that a report reads, from drawn embeddings."""

import json
from pathlib import Path

import numpy as np

from configs.base import base_config
from gil_jax.data.protocols import CASIA_B
from gil_jax.evaluation.report import evaluate_table
from gil_jax.evaluation.store import save_embeddings
from gil_jax.kept_embeddings import protocol_fields
from gil_jax.types import EmbeddingTable
from gil_jax.workdir import write_json, write_report

CONDITIONS = ("nm-01", "nm-02", "nm-05", "bg-01", "cl-01")
PEOPLE = tuple(f"{i:03d}" for i in range(90, 96))
VIEWS = ("000", "036", "090")


def make_workdir(
    folder: Path,
    noise: float = 0.6,
    people: tuple[str, ...] = PEOPLE,
    views: tuple[str, ...] = VIEWS,
    steps: int = 20,
    keep: bool = True,
    name: str = "synthetic",
) -> Path:
    """Write a workdir of a run whose embeddings are centres of people plus noise; keep: its embeddings too."""
    folder.mkdir(parents=True)
    config = base_config()
    config.model.update({"name": "gaitset", "channels": (2, 4, 4), "features": 8, "num_classes": 4})
    config.loss = {"s_triplet": {"weight": 1.0}, "cross_entropy": {"weight": 1.0}}
    config.data.update({"name": name, "split": "first-4"})
    config.train.steps = steps
    write_json(folder / "config.json", json.loads(config.to_json()))
    train = ["001", "002", "003", "004"]
    data = {"name": name, "fingerprint": "f00d", "train": train, "test": list(people), "ancestors": []}
    write_json(folder / "data.json", data)
    devices = {"kind": "cpu", "platform": "cpu", "number": 2, "processes": 1}
    run = {"time": "2026-01-02T03:04:05+00:00", "host": "here", "start_step": 0, "revision": "abc"}
    write_json(folder / "run.json", run | {"versions": {"jax": "1.2.3", "gil_jax": None}, "devices": devices})
    lines = [json.dumps({"step": step, **_metrics(step)}) for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    table = draw_table(people, views, noise)
    report = {"dataset": name, "split": "first-4", "step": steps}
    report |= evaluate_table(table, table, CASIA_B, "euclidean", samples=50) | {"unchecked": []}
    path = write_report(str(folder), report)
    if keep:
        trained = [{"workdir": str(folder), "name": name, "fingerprint": "f00d", "train": train}]
        about = {"network": "n", "data": "f00d", "step": steps, "dataset": name, "trained": trained}
        about["comparison"] = protocol_fields(CASIA_B)
        save_embeddings(path.with_suffix(".npz"), table, table.embeddings, about)
    return folder


def draw_table(people: tuple[str, ...], views: tuple[str, ...], noise: float) -> EmbeddingTable:
    """Draw embeddings [n, 2, 3] of every person, condition and view."""
    rng = np.random.default_rng(0)
    labels = [(person, condition, view) for person in people for condition in CONDITIONS for view in views]
    centres = rng.normal(size=(len(people), 1, 2, 3)).repeat(len(CONDITIONS) * len(views), axis=1).reshape(-1, 2, 3)
    values = centres + noise * rng.normal(size=centres.shape)
    return EmbeddingTable(values.astype(np.float32), *map(np.array, zip(*labels, strict=True)))


def _metrics(step: int) -> dict:
    return {
        "loss": 2 / step,
        "s_triplet": 1 / step,
        "cross_entropy": 1 / step,
        "s_triplet/nonzero_share": 1 / step,
        "s_triplet/nonzero": 100 // step,
        "learning_rate": 0.1 if step < 10 else 0.01,
        "alignment": 0.5 / step,
        "uniformity": -0.1 * step,
        "gradient_norm": 1.0,
        "parameter_norm": 10.0,
        "positive_distance": 1.0,
        "negative_distance": 1 + 0.1 * step,
        "steps_per_second": 3.0,
        "input_wait_share": 0.01,
        "skipped": 0.0,
    } | ({"eval/NM/excluding_identical_view": 50.0 + step} if step % 10 == 0 else {})
