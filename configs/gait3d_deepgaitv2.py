"""DeepGaitV2 p3d on Gait3D (OpenGait's DeepGaitV2_gait3d).

    python run_train.py --config=configs/gait3d_deepgaitv2.py --workdir=<dir>

Published rank-1 (OpenGait model zoo): 74.4; users report less from this configuration.
Another loss: `--config=configs/gait3d_deepgaitv2.py:l_s`, see configs/loss_recipes.py; without the row's augmentation
`:triplet_ce,no_augment`.
Gait3D.json is OpenGait's partition and list of probes, in the current folder or with `--config.data.split=<file>
--config.data.protocol=gait3d:<file>`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, deepgaitv2, finish, in_the_wild, ordered, parse, residual

PUBLISHED = {"triplet_ce,augment": {"Gait3D_json": {"probes": 74.4}}}


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = in_the_wild(choice, "gait3d", "Gait3D.json", "gait3d:Gait3D.json")
    config.data.update({"subjects_per_batch": 32, "sequences_per_subject": 4})
    ordered(config)
    residual(config, choice, GEOMETRIC, (20_000, 40_000, 50_000), 60_000)
    return finish(config, deepgaitv2((1, 4, 4, 1), 3000), choice, PUBLISHED)
