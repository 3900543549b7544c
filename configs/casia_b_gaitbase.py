"""GaitBase on CASIA-B (OpenGait's gaitbase_da_casiab).

    python run_train.py --config=configs/casia_b_gaitbase.py --workdir=<dir>

Published rank-1 (OpenGait model zoo), excluding identical views, with the row's augmentation: NM 97.6, BG 94.0, CL
77.4.
Another loss: `--config=configs/casia_b_gaitbase.py:l_s`, see configs/loss_recipes.py; other splits: `:triplet_ce,st`
(or mt, lt_without_005), or `--config.data.split=<JSON file>`; without the row's augmentation `:triplet_ce,no_augment`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import TURN_AND_ERASE, casia_b, finish, gaitbase, nm_bg_cl, parse, residual

PUBLISHED = {"triplet_ce,augment": {"lt": nm_bg_cl(97.6, 94.0, 77.4)}}


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = casia_b(choice)
    residual(config, choice, TURN_AND_ERASE, (20_000, 40_000, 50_000), 60_000)
    return finish(config, gaitbase(), choice, PUBLISHED)
