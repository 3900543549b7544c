"""GLN on CASIA-B, 128x88, phase 1: without the compact block.

    python run_train.py --config=configs/casia_b_gln_phase1.py --workdir=<dir>

Published rank-1, excluding identical views: triplet as in the OpenGait model zoo.
Another loss: `--config=configs/casia_b_gln_phase1.py:l_s`, see configs/loss_recipes.py. Other splits:
`--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import Choice, casia_b, finish, nm_bg_cl, parse

PUBLISHED = {"triplet": {"lt": nm_bg_cl(96.4, 93.1, 81.0)}}
MODEL = {
    "name": "gln",
    "channels": (32, 64, 128),
    "lateral_channels": 256,
    "features": 256,
    "bins": (16, 8, 4, 2, 1),
    "height": 128,
}


def get_config(argument: str = "triplet") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment]."""
    choice = parse(argument)
    return finish(gln(choice), MODEL, choice, PUBLISHED)


def gln(choice: Choice) -> ConfigDict:
    """Build the fields that both phases share, without the model."""
    config = casia_b(choice)
    config.data.update({"height": 128, "order": "ordered"})
    config.optim.decay_steps = (10_000, 20_000, 30_000)
    config.train.steps = 40_000
    return config
