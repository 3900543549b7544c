"""GaitSet on OU-MVLP.

    python run_train.py --config=configs/oumvlp_gaitset.py --workdir=<dir>

Published rank-1, excluding identical views, all probes, triplet loss: 87.2 (OpenGait model zoo).
Another loss: `--config=configs/oumvlp_gaitset.py:l_m` (or triplet, l_s, gil, as_released).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import adam, oumvlp

PUBLISHED = {"triplet": {"official": {"NM": 87.2}}}


def get_config(recipe: str = "triplet"):
    """recipe: the loss."""
    config = oumvlp(recipe)
    config.model.update(
        {
            "name": "gaitset",
            "channels": (64, 128, 256),
            "features": 256,
            "bins": (16, 8, 4, 2, 1),
            "height": 64,
            "dtype": "float32",
        }
    )
    adam(config)
    config.optim.decay_steps = (150_000,)
    config.train.steps = 250_000
    config.expected = PUBLISHED.get(recipe, {})
    return config
