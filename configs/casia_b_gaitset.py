"""GaitSet on CASIA-B.

    python run_train.py --config=configs/casia_b_gaitset.py --workdir=<dir> [--config.data.split=st|mt|lt|lt_without_005]

Published (OpenGait model zoo, LT, excluding identical views): NM 95.8, BG 90.0, CL 75.4 with the triplet loss.
"""

from configs.base import base_config
from configs.loss_recipes import loss_recipe


def get_config(recipe: str = "triplet"):
    """The row of the published recipe table; recipe: the loss, `--config=configs/casia_b_gaitset.py:l_m`."""
    config = base_config()
    config.model.update({"name": "gaitset"})
    config.loss = loss_recipe(recipe)
    config.data.name = "casia_b"
    config.optim.decay_steps = (10_000, 20_000, 30_000)
    config.train.steps = 40_000
    config.expected = {"lt": {"NM": 95.8, "BG": 90.0, "CL": 75.4}} if recipe == "triplet" else {}
    return config
