"""GLN on CASIA-B, 128x88, phase 2: the compact block on top of a phase 1 network.

    python run_train.py --config=configs/casia_b_gln_phase2.py --workdir=<dir> --config.init_from=<workdir of phase 1>

Published rank-1: none in our sources. triplet_ce is the network's own loss, its cross entropy weighs 0.1.
Another loss: `--config=configs/casia_b_gln_phase2.py:l_s`, see configs/loss_recipes.py. Other splits:
`--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.casia_b_gln_phase1 import MODEL, gln
from configs.rows import FROM_SPLIT, finish, parse


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment]."""
    choice = parse(argument)
    config = gln(choice)
    if choice.recipe == "triplet_ce":
        config.loss.cross_entropy.weight = 0.1
    config.optim.learning_rate = 0.01
    block = {"compact": True, "compact_features": 256, "dropout": 0.9, "num_classes": FROM_SPLIT}
    return finish(config, MODEL | block, choice, {})
