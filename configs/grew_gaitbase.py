"""GaitBase on GREW (OpenGait's gaitbase_da_grew).

    python run_train.py --config=configs/grew_gaitbase.py --workdir=<dir>

Published rank-1 (OpenGait model zoo): 60.1 on the test server, for the submission file; no numbers of the local
protocol.
Another loss: `--config=configs/grew_gaitbase.py:l_s`, see configs/loss_recipes.py; without the row's augmentation
`:triplet_ce,no_augment`.
The reference lays the sequences of a device end to end, so its augmentations draw once a device; here every sequence
draws apart, and the number of frames, drawn for each sequence, is padded to the largest.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.loss_recipes import RECIPES
from configs.rows import GEOMETRIC, finish, gaitbase, in_the_wild, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument, augmented=tuple(RECIPES))
    config = in_the_wild(choice, "grew")
    config.data.update({"subjects_per_batch": 32, "sequences_per_subject": 4})
    with config.data.ignore_type():
        config.data.frames = (20, 40)
    residual(config, choice, GEOMETRIC, (80_000, 120_000, 150_000), 180_000)
    return finish(config, gaitbase(), choice, {})
