"""DeepGaitV2 p3d on SUSTech1K (OpenGait's DeepGaitV2_sustech1k).

    python run_train.py --config=configs/sustech1k_deepgaitv2.py --workdir=<dir>

Published rank-1 (OpenGait model zoo), excluding identical views, with the row's augmentation: Normal 87.5, Bag 84.1,
Clothing 53.4, Carrying 81.3, Umbrella 86.2, Uniform 84.8, Occlusion 88.5, Night 28.8, Overall 82.4.
Another loss: `--config=configs/sustech1k_deepgaitv2.py:l_s`, see configs/loss_recipes.py; without the row's
augmentation `:triplet_ce,no_augment`.
SUSTech1K.json is OpenGait's partition, in the current folder or with `--config.data.split=<file>`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, deepgaitv2, finish, in_the_wild, ordered, parse, residual

RATES = {
    "Normal": 87.5,
    "Bag": 84.1,
    "Clothing": 53.4,
    "Carrying": 81.3,
    "Umbrella": 86.2,
    "Uniform": 84.8,
    "Occlusion": 88.5,
    "Night": 28.8,
    "Overall": 82.4,
}


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = in_the_wild(choice, "sustech1k", "SUSTech1K.json")
    config.data.sequences_per_subject = 8
    ordered(config, frames=10)
    residual(config, choice, GEOMETRIC, (20_000, 30_000, 40_000), 50_000)
    return finish(config, deepgaitv2((1, 1, 1, 1), 250), choice, {"triplet_ce,augment": {"SUSTech1K_json": RATES}})
