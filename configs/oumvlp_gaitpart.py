"""GaitPart on OU-MVLP.

    python run_train.py --config=configs/oumvlp_gaitpart.py --workdir=<dir>

Published rank-1, excluding identical views, all probes: triplet as in the OpenGait model zoo.
Another loss: `--config=configs/oumvlp_gaitpart.py:l_s`, see configs/loss_recipes.py.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import adam, finish, oumvlp, parse

PUBLISHED = {"triplet": {"official": {"NM": 88.6}}}


def get_config(argument: str = "triplet") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment]."""
    choice = parse(argument)
    config = oumvlp(choice)
    model = {
        "name": "gaitpart",
        "channels": (32, 64, 128, 256),
        "halvings": (0, 0, 3, 3),
        "features": 256,
        "bins": (16,),
        "height": 64,
    }
    config.data.update({"order": "ordered", "skip": 10})
    adam(config)
    config.optim.decay_steps = (150_000,)
    config.train.steps = 250_000
    return finish(config, model, choice, PUBLISHED)
