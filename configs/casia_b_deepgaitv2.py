"""DeepGaitV2 p3d on CASIA-B (OpenGait's DeepGaitV2_casiab).

    python run_train.py --config=configs/casia_b_deepgaitv2.py --workdir=<dir>

Published rank-1: none in our sources.
Another loss: `--config=configs/casia_b_deepgaitv2.py:l_s`, see configs/loss_recipes.py; other splits: `:triplet_ce,st`
(or mt, lt_without_005), or `--config.data.split=<JSON file>`; without the row's augmentation `:triplet_ce,no_augment`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, casia_b, deepgaitv2, finish, ordered, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = casia_b(choice)
    ordered(config)
    residual(config, choice, GEOMETRIC, (20_000, 40_000, 50_000), 60_000)
    return finish(config, deepgaitv2((1, 1, 1, 1)), choice, {})
