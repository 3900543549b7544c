"""People who trained are never called unseen: what a workdir remembers of them, and how it is compared."""

from pathlib import Path
from typing import Any

from gil_jax.data.dataset import Dataset
from gil_jax.data.protocols import Split
from gil_jax.workdir import Held, read_workdir

UNSEEN = "people who were not in training"


def describe_data(name: str, dataset: Dataset, ancestors: list[dict[str, Any]]) -> dict[str, Any]:
    """Describe the data of a run for data.json.

    Returns {"name": config.data.name, "fingerprint", "train": people, "test": people, "ancestors": [the same of every
    network that the run started from, with its "workdir"; "train" is None where nobody knows]}.
    """
    split = dataset.split
    return {
        "name": name,
        "fingerprint": dataset.source.fingerprint,
        "train": list(split.train),
        "test": list(split.test),
        "ancestors": ancestors,
    }


def ancestors_of(workdir: str) -> list[dict[str, Any]]:
    """Describe the data that a network of another workdir was trained on: its own, and those of its ancestors."""
    held = read_workdir(workdir)
    own = {"workdir": str(Path(workdir).absolute()), "name": None, "fingerprint": None, "train": None}
    if held.data is None:
        return [own]
    own |= {name: held.data[name] for name in ("fingerprint", "train")} | {"name": _name(held)}
    return [own, *held.data.get("ancestors", [])]


def check_unseen(trained: list[dict[str, Any]], name: str, fingerprint: str, split: Split) -> list[str]:
    """Raise ValueError where people are tested who trained; return what could not be checked, a sentence each.

    trained: see `ancestors_of`. name, fingerprint: of the data whose people are tested.
    """
    unchecked = []
    for data in trained:
        workdir, same_data = data["workdir"], data["fingerprint"] == fingerprint
        if data["train"] is None:
            unchecked.append(f"nothing says who trained the network of {workdir}")
            continue
        if not same_data and data["name"] not in (None, name):
            unchecked.append(
                f"the network of {workdir} was trained on other data, {data['name']}, whose people are not compared"
            )
            continue
        both = sorted(set(data["train"]) & set(split.test))
        if both:
            raise ValueError(
                f"config.data.split={split.name!r} tests {len(both)} people whom {workdir} trained on "
                f"({', '.join(both[:5])} ...): give the split of the training, see its data.json"
            )
        if not same_data:
            unchecked.append(
                f"{workdir} was trained on another version of the data: people are compared by their names alone"
            )
    return unchecked


def describe_tested(unchecked: list[str]) -> str:
    """Say who is tested, for the head of a table."""
    return UNSEEN if not unchecked else f"people; not checked whether they were in training: {'; '.join(unchecked)}"


def _name(held: Held) -> str | None:
    """The name of a workdir's data; earlier versions of data.json lack it."""
    assert held.data is not None
    return held.data.get("name") or ((held.config or {}).get("data") or {}).get("name")
