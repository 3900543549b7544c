"""GaitSet on CASIA-B.

    python run_train.py --config=configs/casia_b_gaitset.py --workdir=<dir>

Published rank-1, excluding identical views: triplet as in the OpenGait model zoo (LT) and in Table 1 of Yu et al., ACM
MM 2022 (ST, MT); l_s as in its Table 4. The paper does not say how it adds cross entropy to this network, which has no
classifier; here it is Baseline's, BatchNorm and cosine logits of every part (ours).
Another loss: `--config=configs/casia_b_gaitset.py:l_s`, see configs/loss_recipes.py. Other splits:
`--config.data.split=st` (or mt, lt_without_005, a JSON file).
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import casia_b, finish, nm_bg_cl, parse

PUBLISHED = {
    "triplet": {
        "st": nm_bg_cl(83.3, 75.1, 45.2),
        "mt": nm_bg_cl(94.3, 84.3, 62.5),
        "lt": nm_bg_cl(95.8, 90.0, 75.4),
    },
    "l_s": {"lt": nm_bg_cl(97.0, 92.6, 76.6)},
}


def get_config(argument: str = "triplet") -> ConfigDict:
    """Build the row. argument: <recipe>[,<split>][,augment]."""
    choice = parse(argument)
    config = casia_b(choice)
    model = {"name": "gaitset", "channels": (32, 64, 128), "features": 256, "bins": (16, 8, 4, 2, 1), "height": 64}
    config.optim.decay_steps = (10_000, 20_000, 30_000)
    config.train.steps = 40_000
    return finish(config, model, choice, PUBLISHED)
