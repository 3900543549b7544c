"""Baseline on OU-MVLP.

    python run_train.py --config=configs/oumvlp_baseline.py --workdir=<dir>

Published rank-1: none in our sources for exactly this network. triplet_ce is the network's own loss, its cross entropy
weighs 0.1 and is smoothed by 0.1.
Another loss: `--config=configs/oumvlp_baseline.py:l_s`, see configs/loss_recipes.py.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import FROM_SPLIT, finish, oumvlp, parse


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment]."""
    choice = parse(argument)
    config = oumvlp(choice)
    if choice.recipe == "triplet_ce":
        config.loss.cross_entropy.update({"weight": 0.1, "smoothing": 0.1})
    model = {
        "name": "baseline",
        "channels": (32, 64, 128, 256),
        "features": 256,
        "bins": (16, 8, 4, 2, 1),
        "height": 64,
        "num_classes": FROM_SPLIT,
    }
    config.optim.decay_steps = (50_000, 100_000)
    config.train.steps = 150_000
    return finish(config, model, choice, {})
