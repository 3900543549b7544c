"""Seconds from the command until the first training step begins, with nothing compiled yet and everything compiled.

    python -m benchmarks.startup [--configs synthetic_gaitset casia_b_gaitset casia_b_gaitgl]

Every run is run_train.py in a process of its own on the synthetic walkers, stopped after its first logged step. "cold"
starts with an empty compilation cache, "warm" is the same command again in a new workdir. "step" is the first step.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from configs.synthetic_gaitset import get_config
from data_prep.prepare import prepare_synthetic

ROOT = Path(__file__).resolve().parent.parent


class Start(NamedTuple):
    """Seconds from the command until the first step begins, and of that step."""

    before: float
    step: float


def start(row: str, data_dir: str, cache: Path, workdir: Path) -> Start:
    """Start a training, wait for the first line of its metrics, and kill it."""
    command = [sys.executable, "run_train.py", f"--config=configs/{row}.py:triplet", f"--workdir={workdir}"]
    command += [f"--compilation_cache={cache}", f"--config.data.dir={data_dir}", "--config.train.log_every=1"]
    if not row.startswith("synthetic"):
        command += ["--config.data.name=synthetic", "--config.data.split=first-44", "--config.data.workers=0"]
    began = time.perf_counter()
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    metrics = workdir / "metrics.jsonl"
    try:
        while not (metrics.exists() and metrics.read_text().endswith("\n")):
            if run.poll() is not None:
                raise RuntimeError(run.stderr.read() if run.stderr else "")
            time.sleep(0.02)
        passed = time.perf_counter() - began
    finally:
        run.send_signal(signal.SIGKILL)
        run.communicate()
    line = json.loads(metrics.read_text().splitlines()[0])
    step = (1 - line["input_wait_share"]) / line["steps_per_second"]  # waiting for the first batch is part of the start
    return Start(passed - step, step)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=["synthetic_gaitset", "casia_b_gaitset", "casia_b_gaitgl"])
    parser.add_argument("--data_dir", default=os.environ.get("TFDS_DATA_DIR", ""), help="where the walkers are, or go")
    arguments = parser.parse_args()
    config = get_config()
    home = prepare_synthetic(config.synthetic.to_dict(), arguments.data_dir, config.data.height)
    print("| config | cold (s) | warm (s) | step (s) |\n|---|---|---|---|")
    for row in arguments.configs:
        data_dir = arguments.data_dir if row.startswith("synthetic") else home
        with tempfile.TemporaryDirectory() as folder:
            cache = Path(folder) / "compiled"
            cold, warm = (start(row, data_dir, cache, Path(folder) / name) for name in "ab")
        print(f"| {row} | {cold.before:.1f} | {warm.before:.1f} | {warm.step:.1f} |", flush=True)


if __name__ == "__main__":
    main()
