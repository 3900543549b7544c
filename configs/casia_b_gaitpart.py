"""GaitPart on CASIA-B.

    python run_train.py --config=configs/casia_b_gaitpart.py --workdir=<dir>

Published rank-1, excluding identical views: triplet as in the OpenGait model zoo.
Another loss: `--config=configs/casia_b_gaitpart.py:l_s`, see configs/loss_recipes.py. Other splits:
`--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import adam, casia_b, finish, nm_bg_cl, parse

PUBLISHED = {"triplet": {"lt": nm_bg_cl(96.1, 90.7, 78.7)}}


def get_config(argument: str = "triplet") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment]."""
    choice = parse(argument)
    config = casia_b(choice)
    model = {
        "name": "gaitpart",
        "channels": (32, 64, 128),
        "halvings": (0, 2, 3),
        "features": 128,
        "bins": (16,),
        "height": 64,
    }
    config.data.update({"order": "ordered", "skip": 10})
    adam(config)
    config.optim.decay_steps = (100_000,)
    config.train.steps = 120_000
    return finish(config, model, choice, PUBLISHED)
