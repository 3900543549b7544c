"""GaitSet on CASIA-B.

    python run_train.py --config=configs/casia_b_gaitset.py --workdir=<dir>

Published rank-1, excluding identical views, triplet loss: LT NM 95.8, BG 90.0, CL 75.4 (OpenGait model zoo);
ST and MT as in Table 1 of Yu et al., ACM MM 2022.
Another loss: `--config=configs/casia_b_gaitset.py:l_m` (or triplet, l_s, gil, as_released). Other
splits: `--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import casia_b

PUBLISHED = {
    "triplet": {
        "st": {"NM": 83.3, "BG": 75.1, "CL": 45.2},
        "mt": {"NM": 94.3, "BG": 84.3, "CL": 62.5},
        "lt": {"NM": 95.8, "BG": 90.0, "CL": 75.4},
    }
}


def get_config(recipe: str = "triplet"):
    """recipe: the loss."""
    config = casia_b(recipe)
    config.model.update(
        {
            "name": "gaitset",
            "channels": (32, 64, 128),
            "features": 256,
            "bins": (16, 8, 4, 2, 1),
            "height": 64,
            "dtype": "float32",
        }
    )
    config.optim.decay_steps = (10_000, 20_000, 30_000)
    config.train.steps = 40_000
    config.expected = PUBLISHED.get(recipe, {})
    return config
