"""DeepGaitV2 p3d on GREW (OpenGait's DeepGaitV2_grew).

    python run_train.py --config=configs/grew_deepgaitv2.py --workdir=<dir>

Published rank-1 (OpenGait model zoo): 79.4 on the test server, of the 3-D network (`--config.model.mode=3d`); none of
p3d.
Another loss: `--config=configs/grew_deepgaitv2.py:l_s`, see configs/loss_recipes.py; without the row's augmentation
`:triplet_ce,no_augment`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, deepgaitv2, finish, in_the_wild, ordered, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = in_the_wild(choice, "grew")
    config.data.update({"subjects_per_batch": 32, "sequences_per_subject": 4})
    ordered(config)
    residual(config, choice, GEOMETRIC, (80_000, 120_000, 150_000), 180_000)
    return finish(config, deepgaitv2((1, 4, 4, 1)), choice, {})
