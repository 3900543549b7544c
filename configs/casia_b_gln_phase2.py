"""GLN on CASIA-B, 128x88, phase 2: the compact block on top of a phase 1 network.

    python run_train.py --config=configs/casia_b_gln_phase2.py --workdir=<dir> --config.init_from=<workdir of phase 1>

Published rank-1: none in our sources.
Another loss: `--config=configs/casia_b_gln_phase2.py:l_m` (or triplet, l_s, gil, as_released). Other
splits: `--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: our sources for the numbers do not state it; nothing of this row was trained by us.
"""

from configs import casia_b_gln_phase1
from configs.rows import cross_entropy


def get_config(recipe: str = "triplet"):
    """recipe: the pairwise loss; cross entropy 0.1 (scale 16) stands beside it."""
    config = casia_b_gln_phase1.get_config(recipe)
    config.loss.cross_entropy = cross_entropy(0.1, scale=16.0)
    config.model.update({"compact": True, "compact_features": 256, "dropout": 0.9, "num_classes": 74})
    config.optim.learning_rate = 0.01
    config.expected = {}
    return config
