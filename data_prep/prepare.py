"""The data of the embedded default: walkers made and built once, found again later."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from data_prep.build import build_dataset
from data_prep.synthetic import SyntheticConfig, fingerprint, write_walkers
from gil_jax.data.source import data_home
from gil_jax.processes import end_with_parent

ROOT = Path(__file__).resolve().parent.parent


def prepare_synthetic(settings: dict, data_dir: str, height: int) -> str:
    """Make synthetic walkers and build their records unless that was done; returns the folder for find_dataset.

    settings: fields of SyntheticConfig. Everything is under <data_dir>/synthetic_walkers/<key of the settings>: the
    pictures in raw/, the records in synthetic/<height>/. Stopped at any moment, it goes on from there.
    """
    wanted = _config(settings)
    key = hashlib.sha256(json.dumps([asdict(wanted), fingerprint(wanted)]).encode()).hexdigest()[:12]
    home = data_home(data_dir).resolve()
    folder = home / "synthetic_walkers" / key
    if not any((folder / "synthetic" / str(height)).glob("*/dataset_info.json")):
        # A process of its own: its workers do not start from the caller's main module, nor beside jax's threads.
        arguments = [json.dumps(settings), str(folder), str(height), str(os.getpid())]
        subprocess.run([sys.executable, "-m", "data_prep.prepare", *arguments], cwd=ROOT, check=True)
    return str(folder)


def _config(settings: dict) -> SyntheticConfig:
    return SyntheticConfig(**{name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()})


def main(settings: str, folder: str, height: str, parent: str) -> None:
    """Write the walkers and build the records, for as long as the process `parent` lives that asked for them."""
    end_with_parent(int(parent))
    write_walkers(_config(json.loads(settings)), Path(folder) / "raw")
    build_dataset("synthetic", Path(folder) / "raw", folder, int(height))


if __name__ == "__main__":
    main(*sys.argv[1:])
