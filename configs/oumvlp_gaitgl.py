"""GaitGL on OU-MVLP.

    python run_train.py --config=configs/oumvlp_gaitgl.py --workdir=<dir>

Published rank-1, excluding identical views, all probes, triplet and cross entropy: 89.9 (OpenGait model zoo).
Another loss: `--config=configs/oumvlp_gaitgl.py:l_m` (or triplet, l_s, gil, as_released).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import cross_entropy, oumvlp

PUBLISHED = {"triplet": {"official": {"NM": 89.9}}}


def get_config(recipe: str = "as_released"):
    """recipe: the pairwise loss; smoothed cross entropy stands beside it, as in the released configuration."""
    config = oumvlp(recipe, cross_entropy(1.0, smoothing=0.1))
    config.model.update(
        {
            "name": "gaitgl",
            "channels": (32, 64, 128, 256),
            "depth": 2,
            "halvings": 1,
            "features": 256,
            "bins": (64,),
            "height": 64,
            "num_classes": 5153,
            "dtype": "float32",
        }
    )
    config.data.update({"sequences_per_subject": 8, "order": "ordered"})
    config.optim.update({"schedule": "cosine", "min_learning_rate": 1e-4, "warmup_steps": 4000})
    config.train.steps = 210_000
    config.expected = PUBLISHED.get(recipe, {})
    return config
