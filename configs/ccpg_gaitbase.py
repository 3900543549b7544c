"""GaitBase on CCPG (OpenGait's gaitbase_ccpg).

    python run_train.py --config=configs/ccpg_gaitbase.py --workdir=<dir>

Published rank-1: none in our sources.
Another loss: `--config=configs/ccpg_gaitbase.py:l_s`, see configs/loss_recipes.py.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import finish, gaitbase, in_the_wild, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument)
    config = in_the_wild(choice, "ccpg")
    residual(config, choice, {}, (20_000, 40_000, 50_000), 60_000)
    return finish(config, gaitbase(), choice, {})
