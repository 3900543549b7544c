"""What a workdir remembers of its run beside checkpoints: config.json, and data.json with who trained."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from gil_jax.checks import flatten
from gil_jax.data.dataset import Dataset
from gil_jax.data.protocols import Split

# What may change between a stop and the next start: nothing of it changes the parameters that a step reaches.
FREE = ("train", "eval", "sharding", "expected", "data.dir", "data.workers", "data.cache", "data.split", "init_from")


def open_workdir(workdir: str, config: ConfigDict, fingerprint: str, split: Split) -> None:
    """Make the folder and write config.json and data.json, or check that they fit a run that goes on.

    Raises ValueError that lists what differs from the run that the workdir holds.
    """
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    now = {"fingerprint": fingerprint, "train": list(split.train), "test": list(split.test)}
    before = read_json(folder / "data.json")
    if before is not None and before != now:
        what = "data" if before["fingerprint"] != fingerprint else "split"
        raise ValueError(
            f"{folder} was trained on another {what}, see its data.json: give the same --config.data or a new --workdir"
        )
    wanted, held = flatten(json.loads(config.to_json())), flatten(read_json(folder / "config.json") or {})
    differing = [
        f"  config.{name}: {held.get(name)!r} there, {wanted.get(name)!r} now"
        for name in sorted(held.keys() | wanted.keys())
        if held and held.get(name) != wanted.get(name) and not _is_free(name)
    ]
    if differing:
        raise ValueError(
            f"{folder} holds a run of another config:\n"
            + "\n".join(differing)
            + "\nSet these back, or give a new --workdir"
        )
    _write(folder / "config.json", json.loads(config.to_json()))
    _write(folder / "data.json", now)


def check_unseen(workdir: str, dataset: Dataset) -> None:
    """Raise ValueError where the split tests people whom the workdir trained on."""
    trained = read_json(Path(workdir) / "data.json")
    if trained and trained["fingerprint"] == dataset.source.fingerprint:
        both = sorted(set(trained["train"]) & set(dataset.split.test))
        if both:
            raise ValueError(
                f"config.data.split={dataset.split.name!r} tests {len(both)} people whom {workdir} trained on "
                f"({', '.join(both[:5])} ...): give the split of the training, see its data.json"
            )


def read_json(path: Path) -> dict | None:
    """A JSON file, or None where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_report(workdir: str, report: dict) -> Path:
    """Keep an evaluation as <workdir>/eval/<dataset>-<step>.json."""
    path = Path(workdir) / "eval" / f"{report['dataset']}-{report['step']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, report)
    return path


def _write(path: Path, content: dict) -> None:
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(free + ".") for free in FREE)
