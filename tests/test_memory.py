"""Memory of the host over a training, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
TRAINING = """
import sys
from pathlib import Path
from gil_jax import train_loop
from gil_jax.processes import keep_freed_memory
from tests.tiny_config import get_config

keep_freed_memory()
config = get_config()
config.data.dir = sys.argv[1]
config.data.workers = 0
config.data.update({"sequences_per_subject": 4, "frames": 12})
config.train.update({"steps": 300, "log_every": 20, "checkpoint_every": 0, "eval_every": 60})
resident = {}

class Log(train_loop.MetricsLog):
    def write(self, step, metrics, shown=()):
        super().write(step, metrics, shown)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident[step] = pages * 4096 / 2**20

train_loop.MetricsLog = Log
train_loop.train_and_evaluate(config, sys.argv[2])
print("MiB", *(resident[step] for step in (80, 120, 140, 180, 200, 240, 260, 300)))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_over_steps_and_evaluations(tiny_config, tmp_path):
    command = [sys.executable, "-c", TRAINING, tiny_config.data.dir, str(tmp_path / "run")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    held = np.array(done.stdout.split("MiB")[-1].split(), float).reshape(4, 2)  # MiB, of 40 steps between evaluations
    batch = 16 * 12 * 64 * 44 / 2**20  # of uint8 silhouettes
    # Half of what would be held if a batch stayed at every step. The allocator takes and gives more now and then, so
    # the median of the four.
    assert np.median(held[:, 1] - held[:, 0]) < 40 * batch / 2
    assert held[3, 1] - held[0, 0] < 220 * batch / 2
