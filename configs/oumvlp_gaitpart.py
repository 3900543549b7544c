"""GaitPart on OU-MVLP.

    python run_train.py --config=configs/oumvlp_gaitpart.py --workdir=<dir>

Published rank-1, excluding identical views, all probes, triplet loss: 88.6 (OpenGait model zoo).
Another loss: `--config=configs/oumvlp_gaitpart.py:l_m` (or triplet, l_s, gil, as_released).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import adam, oumvlp

PUBLISHED = {"triplet": {"official": {"NM": 88.6}}}


def get_config(recipe: str = "triplet"):
    """recipe: the loss."""
    config = oumvlp(recipe)
    config.model.update(
        {
            "name": "gaitpart",
            "channels": (32, 64, 128, 256),
            "halvings": (0, 0, 3, 3),
            "features": 256,
            "bins": (16,),
            "height": 64,
            "dtype": "float32",
        }
    )
    config.data.update({"order": "ordered", "skip": 10})
    adam(config)
    config.optim.decay_steps = (150_000,)
    config.train.steps = 250_000
    config.expected = PUBLISHED.get(recipe, {})
    return config
