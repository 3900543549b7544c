"""Files of a workdir besides checkpoints: config.json, data.json with the people who trained, reports."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs.base import base_config
from gil_jax.checkpoint import read_run, steps_of
from gil_jax.checks import flatten
from gil_jax.data.files import write_atomically
from gil_jax.distributed import print_once
from gil_jax.models import MODELS

# What may change between a stop and the next start: nothing of it changes the parameters that a step reaches.
FREE = ("train", "eval", "sharding", "expected", "data.dir", "data.workers", "data.cache", "data.split", "init_from")
# The fields that say which evaluation a report is of: they make its name.
REPORT_FIELDS = ("dataset", "split", "protocol", "metric", "rerank", "step")


class Held(NamedTuple):
    """Run of a workdir by its files; None where they say nothing. data: see `describe_data` in people.py."""

    config: dict[str, Any] | None
    data: dict[str, Any] | None


def read_workdir(workdir: str, warn: Callable[[str], None] = print_once) -> Held:
    """Read config.json and data.json or, where one is lost, what the latest checkpoint says instead.

    Nothing is written. Raises ValueError that names a file which is damaged where no checkpoint has its content.
    """
    needed = {"config": ("model",), "data": ("fingerprint", "train", "test")}
    found = {}
    for name, fields in needed.items():
        path, fault = Path(workdir) / f"{name}.json", None
        try:
            found[name] = read_json(path, fields)
            if found[name] is not None:
                continue
        except ValueError as error:
            fault = str(error)
        for step in reversed(steps_of(workdir)):
            found[name] = read_run(workdir, step).get(name)
            if found[name]:
                warn(f"{fault or f'{path} is missing'}: what the checkpoint of step {step} says is used instead")
                break
        else:
            found[name] = None
            if fault:
                raise ValueError(f"{fault}. No checkpoint says what it held: mend the file, or give a new --workdir")
    if found["config"] is None and steps_of(workdir):
        warn(f"{workdir}: nothing says which config trained it, so nothing can be compared")
    return Held(**found)


def read_json(path: Path, fields: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """Read a JSON file that holds a dict with `fields`; None where there is none, ValueError that names it else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    missing = [field for field in fields if not isinstance(content, dict) or field not in content]
    if missing:
        raise ValueError(f"{path} is damaged (it lacks {', '.join(missing)})")
    return content


def set_total_steps(config: ConfigDict, held: Held, warn: Callable[[str], None] = print_once) -> None:
    """Set config.optim.total_steps where it is 0: to that of the run that goes on, or to config.train.steps."""
    fields = flatten(held.config or {})
    if not config.optim.total_steps:
        config.optim.total_steps = (
            fields.get("optim.total_steps") or fields.get("train.steps") or max(config.train.steps, 1)
        )
    total = config.optim.total_steps
    if config.optim.schedule == "cosine" and 0 < total < config.train.steps:
        warn(
            f"The learning rate of this run ends its cosine at step {total}, and stays there up to step "
            f"{config.train.steps}. To stretch it: --config.optim.total_steps={config.train.steps} "
            "--config.train.accept_changes=\"('optim.total_steps',)\""
        )


def check_goes_on(workdir: str, config: ConfigDict, held: Held, data: dict[str, Any]) -> None:
    """Raise ValueError that lists what differs between the run that a workdir holds and the one that is to go on."""
    folder = Path(workdir)
    if held.config is not None and "train" not in held.config:
        raise ValueError(
            f"{folder} holds a converted network, not a training: give --config.init_from={folder} and a new --workdir"
        )
    if held.data is not None and any(held.data[name] != data[name] for name in ("fingerprint", "train", "test")):
        what = "data" if held.data["fingerprint"] != data["fingerprint"] else "split"
        raise ValueError(
            f"{folder} was trained on another {what}, see its data.json: give the same --config.data or a new --workdir"
        )
    differing = differences(held.config, config) if held.config else {}
    if refused := [name for name in differing if name not in config.train.accept_changes]:
        lines = [f"  config.{name}: {differing[name][0]!r} there, {differing[name][1]!r} now" for name in refused]
        raise ValueError(
            f"{folder} holds a run of another config:\n"
            + "\n".join(lines)
            + "\nSet these back, or give a new --workdir; or go on with the change on purpose: "
            + f'--config.train.accept_changes="{tuple(refused)!r}"'
        )


def differences(held: dict[str, Any], config: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Compare a config with the one that a workdir holds: {field: (there, now)} of those that are not FREE.

    A field that one of the two lacks has its default there: so fields may be added to the project.
    """
    there, now = flatten(held), flatten(json.loads(config.to_json()))
    defaults = flatten(json.loads(base_config().to_json())) | _model_defaults(config.model.get("name"))
    differing = {}
    for name in sorted(there.keys() | now.keys()):
        values = tuple(fields.get(name, defaults.get(name)) for fields in (there, now))
        if values[0] != values[1] and not any(name == free or name.startswith(free + ".") for free in FREE):
            differing[name] = values
    return differing


def _model_defaults(name: str | None) -> dict[str, Any]:
    if name not in MODELS:
        return {}
    parameters = inspect.signature(MODELS[name].__init__).parameters.values()
    defaults = {f"model.{p.name}": p.default for p in parameters if p.default is not p.empty}
    return json.loads(json.dumps(defaults, default=str))


def write_workdir(workdir: str, config: ConfigDict, data: dict[str, Any]) -> None:
    """Write config.json and data.json. Raises OSError."""
    write_json(Path(workdir) / "config.json", json.loads(config.to_json()))
    write_json(Path(workdir) / "data.json", data)


def write_report(workdir: str, report: dict[str, Any]) -> Path:
    """Keep an evaluation as <workdir>/eval/<dataset>-<split>-<protocol>-<metric>-<step>.json. Raises OSError."""
    values = [report.get(field) for field in REPORT_FIELDS]
    words = ["_".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for value in values]
    given = [
        re.sub(r"[^\w.]+", "_", word) for word, value in zip(words, values, strict=True) if value not in (None, ())
    ]
    path = Path(workdir) / "eval" / f"{'-'.join(given)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)
    return path


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all. Raises OSError."""
    write_atomically(path, json.dumps(content, indent=1) + "\n")
