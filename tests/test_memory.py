"""Memory of the host over a training, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

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
config.train.update({"steps": 420, "log_every": 20, "checkpoint_every": 0, "eval_every": 60})
resident = {}

class Log(train_loop.MetricsLog):
    def write(self, step, metrics, shown=()):
        super().write(step, metrics, shown)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident[step] = pages * 4096 / 2**20

train_loop.MetricsLog = Log
train_loop.train_and_evaluate(config, sys.argv[2])
print("MiB", resident[120], resident[360])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_over_steps_and_evaluations(tiny_config, tmp_path):
    command = [sys.executable, "-c", TRAINING, tiny_config.data.dir, str(tmp_path / "run")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    early, late = map(float, done.stdout.split("MiB")[-1].split())
    batch = 8 * 4 * 64 * 44 / 2**20  # a batch of uint8 silhouettes
    assert late - early < 240 * batch / 2
