"""Baseline on OU-MVLP.

    python run_train.py --config=configs/oumvlp_baseline.py --workdir=<dir>

Published rank-1: none in our sources for exactly this network.
Another loss: `--config=configs/oumvlp_baseline.py:l_m` (or triplet, l_s, gil, as_released).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import cross_entropy, oumvlp


def get_config(recipe: str = "triplet"):
    """recipe: the pairwise loss; cross entropy 0.1 (scale 16, smoothing 0.1) stands beside it."""
    config = oumvlp(recipe, cross_entropy(0.1, scale=16.0, smoothing=0.1))
    config.model.update(
        {
            "name": "baseline",
            "channels": (32, 64, 128, 256),
            "features": 256,
            "bins": (16, 8, 4, 2, 1),
            "height": 64,
            "num_classes": 5153,
            "dtype": "float32",
        }
    )
    config.optim.decay_steps = (50_000, 100_000)
    config.train.steps = 150_000
    return config
