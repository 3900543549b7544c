"""DeepGaitV2 p3d on CCPG (OpenGait's DeepGaitV2_ccpg).

    python run_train.py --config=configs/ccpg_deepgaitv2.py --workdir=<dir>

Published rank-1: none in our sources.
Another loss: `--config=configs/ccpg_deepgaitv2.py:l_s`, see configs/loss_recipes.py; without the row's augmentation
`:triplet_ce,no_augment`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, deepgaitv2, finish, in_the_wild, ordered, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = in_the_wild(choice, "ccpg")
    ordered(config)
    residual(config, choice, GEOMETRIC, (20_000, 40_000, 50_000), 60_000)
    return finish(config, deepgaitv2((1, 1, 1, 1)), choice, {})
