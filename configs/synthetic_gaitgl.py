"""A small GaitGL on the synthetic walkers of `synthetic_gaitset`: a second network, with BatchNorm before the loss.

    python run_train.py --config=configs/synthetic_gaitgl.py --workdir=<dir>

Another loss: `--config=configs/synthetic_gaitgl.py:l_s`, see configs/loss_recipes.py.
"""

from ml_collections import ConfigDict

from configs.rows import FROM_SPLIT, finish, parse
from configs.synthetic_gaitset import synthetic


def get_config(argument: str = "triplet") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment]."""
    choice = parse(argument)
    config = synthetic(choice, ce_scale=1.0)
    config.data.frames = 9
    model = {
        "name": "gaitgl",
        "channels": (8, 16, 32, 32),
        "depth": 1,
        "halvings": 3,
        "features": 64,
        "bins": (64,),
        "height": 64,
        "num_classes": FROM_SPLIT,
    }
    return finish(config, model, choice, {})
