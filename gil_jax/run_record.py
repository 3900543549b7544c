"""run.json: what is needed to say later how a run was made."""

import importlib.metadata
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from gil_jax.workdir import read_json, write_json

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "gil_jax")


def describe_run(config: dict[str, Any], data: dict[str, Any], start: int) -> dict[str, Any]:
    """Describe the start of a run: time, host, versions, revision, devices, config and data."""
    devices = jax.devices()
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "start_step": start,
        "versions": versions(),
        "revision": _revision(),
        "devices": {
            "kind": devices[0].device_kind,
            "platform": devices[0].platform,
            "number": len(devices),
            "processes": jax.process_count(),
        },
        "data": {name: data[name] for name in ("name", "fingerprint")},
        "config": config,
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that numbers depend on; None for one that is not installed."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def write_run(workdir: str, run: dict[str, Any]) -> None:
    """Write <workdir>/run.json; what it said of earlier starts stays under "earlier", without their configs."""
    path = Path(workdir) / "run.json"
    try:
        before = read_json(path) or {}
    except ValueError:
        before = {}
    earlier = before.pop("earlier", [])
    before.pop("config", None)
    write_json(path, run | {"earlier": [*earlier, *([before] if before else [])]})


def _revision() -> str | None:
    """The git revision of this code, "-changed" where files differ from it; None outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=-changed"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
