"""The config that a workdir was trained with: `run_train.py --mode=eval --workdir=<dir>` uses it.

python run_train.py --mode=eval --config=configs/from_workdir.py:<dir> --workdir=<dir>
"""

import json
from pathlib import Path

from ml_collections import ConfigDict

from configs.base import base_config


def get_config(workdir: str) -> ConfigDict:
    """Read config.json of `workdir`; fields that it lacks have their defaults."""
    path = Path(workdir).expanduser() / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, so no workdir of a run; give --config=configs/<row>.py")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        name = saved["model"]["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): give --config=configs/<row>.py") from error
    config = base_config()
    if "data" not in saved:
        raise ValueError(f"{workdir} holds a converted {name}, which names no data: give --config=configs/<row>.py")
    with config.unlocked():
        config.update(_tuples(saved))
    return config


def _tuples(value):
    if isinstance(value, dict):
        return {name: _tuples(member) for name, member in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
