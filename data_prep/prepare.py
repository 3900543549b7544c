"""The data of the embedded default: walkers made and built once, found again later."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from data_prep.build import build_dataset
from data_prep.synthetic import SyntheticConfig, fingerprint, write_walkers


def prepare_synthetic(settings: dict, data_dir: str, height: int, progress: bool = True) -> str:
    """Make synthetic walkers and build their records unless that was done; returns the folder for find_dataset.

    settings: fields of SyntheticConfig. Everything is under <data_dir>/synthetic_walkers/<key of the settings>: the
    pictures in raw/, the records in synthetic/<height>/. Stopped at any moment, it goes on from there.
    """
    wanted = SyntheticConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    key = hashlib.sha256(json.dumps([asdict(wanted), fingerprint(wanted)]).encode()).hexdigest()[:12]
    home = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    folder = home / "synthetic_walkers" / key
    if not any((folder / "synthetic" / str(height)).glob("*/dataset_info.json")):
        write_walkers(wanted, folder / "raw", progress=progress)
        build_dataset("synthetic", folder / "raw", folder, height, progress=progress)
    return str(folder)
