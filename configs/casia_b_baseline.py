"""Baseline on CASIA-B.

    python run_train.py --config=configs/casia_b_baseline.py --workdir=<dir>

Published rank-1: none in our sources for exactly this network.
Another loss: `--config=configs/casia_b_baseline.py:l_m` (or triplet, l_s, gil, as_released). Other
splits: `--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import casia_b, cross_entropy


def get_config(recipe: str = "triplet"):
    """recipe: the pairwise loss; cross entropy 0.1 (scale 16, smoothing 0.1) stands beside it."""
    config = casia_b(recipe, cross_entropy(0.1, scale=16.0, smoothing=0.1))
    config.model.update(
        {
            "name": "baseline",
            "channels": (64, 128, 256),
            "features": 256,
            "bins": (16, 8, 4, 2, 1),
            "height": 64,
            "num_classes": 74,
            "dtype": "float32",
        }
    )
    config.optim.decay_steps = (20_000, 40_000)
    config.train.steps = 60_000
    return config
