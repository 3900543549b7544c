"""Synthetic walkers as a data set for the configs that name none: built once, found again later."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_prep.synthetic import SyntheticConfig, fingerprint, write_walkers
from gil_jax.data.files import locked
from gil_jax.data.source import SilhouetteSource, data_home, find_dataset
from gil_jax.processes import end_with_parent

ROOT = Path(__file__).resolve().parent.parent
_NAME = "synthetic"


def prepare_synthetic(settings: dict, data_dir: str, height: int) -> str:
    """Make synthetic walkers and build their records unless they exist; return the folder for find_dataset.

    settings: fields of SyntheticConfig. Everything is under <data_dir>/synthetic_walkers/<key of the settings>: the
    pictures in raw/, the records in synthetic/<height>/. Stopped at any moment, it goes on from there; a second
    process on the same data_dir waits for the first and uses its records. Raises ValueError with the reason where it
    fails, e.g. a full disk.
    """
    wanted = _config(settings)
    key = hashlib.sha256(json.dumps([asdict(wanted), fingerprint(wanted)]).encode()).hexdigest()[:12]
    folder = data_home(data_dir).resolve() / "synthetic_walkers" / key
    if not _is_built(folder, height):
        _make_apart(settings, folder, height)
    return str(folder)


def _make_apart(settings: dict, folder: Path, height: int) -> None:
    """Run `main` in a process of its own: its workers do not start from the caller's main module or jax's threads."""
    reading, writing = os.pipe()
    arguments = [json.dumps(settings), str(folder), str(height), str(os.getpid()), str(writing)]
    command = [sys.executable, "-m", "data_prep.prepare", *arguments]
    with open(reading, encoding="utf-8") as reasons:
        try:
            done = subprocess.run(command, cwd=ROOT, check=False, pass_fds=[writing])
        finally:
            os.close(writing)
        if done.returncode:
            reason = reasons.read() or f"a process ended with status {done.returncode}"
            raise ValueError(f"the synthetic walkers in {folder} could not be made: {reason}")


def _is_built(folder: Path, height: int) -> bool:
    try:
        SilhouetteSource(find_dataset(str(folder), _NAME, height))
    except (FileNotFoundError, ValueError):
        return False
    return True


def _config(settings: dict[str, Any]) -> SyntheticConfig:
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in settings.items()}
    return SyntheticConfig(**values)


def main(settings: str, folder: str, height: str, parent: str, writing: str) -> int:
    """Write the walkers and build the records, as long as the process `parent` lives, which asked for them.

    Returns the exit status; the reason of a failure goes to the file descriptor `writing`.
    """
    from data_prep.build import BuildError, build_dataset  # takes a second, which a training need not wait for

    end_with_parent(int(parent))
    reason = ""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with locked(Path(folder) / f".{height}.lock", f"Another process makes {folder}: waiting for it"):
            if not _is_built(Path(folder), int(height)):
                write_walkers(_config(json.loads(settings)), Path(folder) / "raw")
                build_dataset(_NAME, Path(folder) / "raw", folder, int(height), overwrite=True)
    except (BuildError, ValueError) as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error}. What is complete is kept: the same command goes on from here"
    except BrokenProcessPool:
        reason = "a process was killed (out of memory?); the same command goes on from here"
    os.write(int(writing), reason.encode("utf-8")[:60_000])  # a pipe holds 64 KB
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
