"""GLN on CASIA-B, 128x88, phase 1: without the compact block.

    python run_train.py --config=configs/casia_b_gln_phase1.py --workdir=<dir>

Published rank-1, excluding identical views, triplet loss: LT NM 96.4, BG 93.1, CL 81.0 (OpenGait model zoo).
Another loss: `--config=configs/casia_b_gln_phase1.py:l_m` (or triplet, l_s, gil, as_released). Other
splits: `--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs.rows import casia_b

PUBLISHED = {"triplet": {"lt": {"NM": 96.4, "BG": 93.1, "CL": 81.0}}}


def get_config(recipe: str = "triplet"):
    """recipe: the loss."""
    config = casia_b(recipe)
    config.model.update(
        {
            "name": "gln",
            "channels": (32, 64, 128),
            "lateral_channels": 256,
            "features": 256,
            "bins": (16, 8, 4, 2, 1),
            "height": 128,
            "dtype": "float32",
        }
    )
    config.data.update({"height": 128, "order": "ordered"})
    config.optim.decay_steps = (10_000, 20_000, 30_000)
    config.train.steps = 40_000
    config.expected = PUBLISHED.get(recipe, {})
    return config
