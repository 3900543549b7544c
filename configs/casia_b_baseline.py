"""Baseline on CASIA-B.

    python run_train.py --config=configs/casia_b_baseline.py --workdir=<dir>

Published rank-1, excluding identical views (Yu et al., ACM MM 2022, Table 4): triplet_ce, the network's own loss,
whose cross entropy weighs 0.1 and is smoothed by 0.1; l_s, all coefficients 1.
Another loss: `--config=configs/casia_b_baseline.py:l_s`, see configs/loss_recipes.py. Other splits:
`--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import FROM_SPLIT, casia_b, finish, nm_bg_cl, parse

PUBLISHED = {"triplet_ce": {"lt": nm_bg_cl(96.3, 92.2, 77.6)}, "l_s": {"lt": nm_bg_cl(97.9, 93.2, 78.7)}}


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment]."""
    choice = parse(argument)
    config = casia_b(choice)
    if choice.recipe == "triplet_ce":
        config.loss.cross_entropy.update({"weight": 0.1, "smoothing": 0.1})
    model = {
        "name": "baseline",
        "channels": (64, 128, 256),
        "features": 256,
        "bins": (16, 8, 4, 2, 1),
        "height": 64,
        "num_classes": FROM_SPLIT,
    }
    config.optim.decay_steps = (20_000, 40_000)
    config.train.steps = 60_000
    return finish(config, model, choice, PUBLISHED)
