"""Copies of workdirs whose people, conditions and views have other names, or other embeddings."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from gil_jax.data.source import SilhouetteSource, find_dataset
from gil_jax.evaluation.report import evaluate_table
from gil_jax.evaluation.store import load_embeddings, save_embeddings
from gil_jax.kept_embeddings import protocol_of

# Names as nobody should choose them: markup, quotes, the end of a script, emoji, right to left, and a long word.
HOSTILE = {
    "004": "<img src=x onerror=alert(1)>",
    "005": "\"'><svg onload=alert(2)>",
    "006": "</script><script>alert(3)</script>",
    "nm-05": "\u202e\u0646\u0648\u0631 😀-05",
    "bg-01": "&lt;b&gt;{{ 7*7 }}${alert(4)}-01",
    "000": "x" * 120,
    "090": "שלום `alert(5)`",
    "NM": "<b onclick=alert(6)>NM",
    "CL": "]]><!-- CL",
}
HOSTILE_FOLDER = "<img src=x onerror=alert(7)>\"'&amp; 😀 \u202eרגל"


def give_silhouettes(workdir: Path, folder: str) -> Path:
    """Let a workdir say that its people are those of the built data set in `folder`, so that they can be shown."""
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["dir"] = folder
    (workdir / "config.json").write_text(json.dumps(config))
    source = SilhouetteSource(find_dataset(folder, config["data"]["name"], config["data"]["height"]))
    (data,) = (workdir / "eval").glob("*.npz")
    table, about = load_embeddings(data)
    embeddings = np.array(table.embeddings)
    data.unlink()
    save_embeddings(data, table, embeddings, about | {"data": source.fingerprint})
    return workdir


def copy_renamed(workdir: Path, copy: Path, names: dict[str, str], noise: float = 0.0) -> Path:
    """Copy a workdir; wherever a name stands alone in JSON, or in a label of the embeddings, it becomes another.

    noise: added to the embeddings of the copy, so that it ranks them otherwise.
    """
    shutil.copytree(workdir, copy)
    for path in copy.rglob("*.json"):
        if "checkpoints" not in path.parts:
            content = _renamed(json.loads(path.read_text(encoding="utf-8")), names)
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path in (copy / "eval").glob("*.npz"):
        table, about = load_embeddings(path)
        embeddings = np.array(table.embeddings)
        embeddings += np.random.default_rng(0).normal(size=embeddings.shape).astype(np.float32) * noise
        columns = (np.array([names.get(x, x) for x in column.tolist()]) for column in table[1:])
        path.unlink()
        save_embeddings(path, table._replace(**dict(zip(table._fields[1:], columns, strict=True))), embeddings, about)
        if noise:
            evaluate_again(path)
    return copy


def evaluate_again(path: Path) -> None:
    """Rank the embeddings of a file, and put the numbers into the evaluation next to it."""
    table, about = load_embeddings(path)
    evaluation = path.with_suffix(".json")
    report = json.loads(evaluation.read_text(encoding="utf-8"))
    numbers = evaluate_table(table, None, protocol_of(about["comparison"]), report["metric"])
    report |= {name: value for name, value in numbers.items() if name != "baseline_gei"}
    evaluation.write_text(json.dumps(report) + "\n", encoding="utf-8")


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(member, names) for key, member in value.items()}
    if isinstance(value, list):
        return [_renamed(member, names) for member in value]
    return names.get(value, value) if isinstance(value, str) else value
