"""Networks learn the synthetic walkers a little, from the command line, with their own recipes made narrow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.prepare import prepare_synthetic
from tests.tiny_config import get_config

ROOT = Path(__file__).parent.parent
NARROW = {
    "casia_b_baseline": ["channels=(2,4,4)", "features=8"],
    "casia_b_gaitset": ["channels=(2,4,4)", "features=8"],
    "casia_b_gaitpart": ["channels=(2,4,4)", "features=8"],
    "casia_b_gaitgl": ["channels=(2,4,4,4)", "features=8"],
    "casia_b_gln_phase1": ["channels=(2,4,4)", "features=8", "lateral_channels=4"],
    "casia_b_gln_phase2": [
        "channels=(2,4,4)", "features=8", "lateral_channels=4", "compact_features=8", "dropout=0.2",
    ],
    "casia_b_deepgaitv2": ["channels=(2,4,4,8)", "features=8"],  # GaitBase is its mode 2d
}  # fmt: skip
RECIPES = {"casia_b_gaitgl": ":s_triplet"}  # without augmentation; other rows keep their own


def _train(row, records, workdir, *flags):
    height = 128 if "gln" in row else 64
    command = [
        sys.executable,
        "run_train.py",
        f"--config=configs/{row}.py{RECIPES.get(row, '')}",
        f"--workdir={workdir}",
        f"--config.data.dir={prepare_synthetic(get_config().synthetic.to_dict(), str(records), height)}",
        "--config.data.name=synthetic",
        "--config.data.split=first-5",
        "--config.data.subjects_per_batch=4",
        "--config.data.sequences_per_subject=2",
        "--config.data.frames=5",
        "--config.data.workers=0",
        "--config.train.steps=40",
        "--config.train.log_every=1",
        "--config.eval.length_buckets=1",
        *(f"--config.model.{field}" for field in NARROW[row]),
        *flags,
    ]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "rank-1 (%) on synthetic, split first-5, step 40" in done.stdout
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    # Over all triplets: the loss itself is the mean of those that are not zero yet, the hard ones.
    lines = [line for line in lines if "loss" in line]
    losses = [line["loss"] - line["s_triplet"] * (1 - line["s_triplet/nonzero_share"]) for line in lines]
    assert len(losses) == 40
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "flags"),
    [
        ("casia_b_baseline", []),
        ("casia_b_gaitset", []),
        ("casia_b_gaitpart", ["--config.optim.learning_rate=0.003"]),
        ("casia_b_gaitgl", ["--config.optim.warmup_steps=5"]),
        ("casia_b_deepgaitv2", ["--config.optim.learning_rate=0.02"]),
    ],
)
def test_a_network_learns(row, flags, records, tmp_path):
    _train(row, records, tmp_path, *flags)


@pytest.mark.slow
def test_gln_learns_in_two_phases(records, tmp_path):
    _train("casia_b_gln_phase1", records, tmp_path / "1")
    printed = _train("casia_b_gln_phase2", records, tmp_path / "2", f"--config.init_from={tmp_path / '1'}")
    initialised = printed.split("newly initialised: ")[1].splitlines()[0]
    assert "compact" in initialised
    assert "frame0" not in initialised
