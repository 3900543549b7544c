"""DeepGaitV2 p3d on OU-MVLP (OpenGait's DeepGaitV2_oumvlp).

    python run_train.py --config=configs/oumvlp_deepgaitv2.py --workdir=<dir>

Published rank-1 (OpenGait model zoo), excluding identical views: 92.0, of the 3-D network (`--config.model.mode=3d`);
none of p3d.
Another loss: `--config=configs/oumvlp_deepgaitv2.py:l_s`, see configs/loss_recipes.py; without the row's augmentation
`:triplet_ce,no_augment`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, deepgaitv2, finish, ordered, oumvlp, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = oumvlp(choice)
    config.data.sequences_per_subject = 8
    ordered(config)
    residual(config, choice, GEOMETRIC, (60_000, 80_000, 100_000), 120_000)
    return finish(config, deepgaitv2((1, 1, 1, 1)), choice, {})
