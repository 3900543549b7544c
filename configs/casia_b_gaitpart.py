"""GaitPart on CASIA-B.

    python run_train.py --config=configs/casia_b_gaitpart.py --workdir=<dir>

Published rank-1, excluding identical views, triplet loss: LT NM 96.1, BG 90.7, CL 78.7 (OpenGait model zoo).
Another loss: `--config=configs/casia_b_gaitpart.py:l_m` (or triplet, l_s, gil, as_released). Other
splits: `--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import adam, casia_b

PUBLISHED = {"triplet": {"lt": {"NM": 96.1, "BG": 90.7, "CL": 78.7}}}


def get_config(recipe: str = "triplet"):
    """recipe: the loss."""
    config = casia_b(recipe)
    config.model.update(
        {
            "name": "gaitpart",
            "channels": (32, 64, 128),
            "halvings": (0, 2, 3),
            "features": 128,
            "bins": (16,),
            "height": 64,
            "dtype": "float32",
        }
    )
    config.data.update({"order": "ordered", "skip": 10})
    adam(config)
    config.optim.decay_steps = (100_000,)
    config.train.steps = 120_000
    config.expected = PUBLISHED.get(recipe, {})
    return config
