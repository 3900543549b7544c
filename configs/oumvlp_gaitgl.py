"""GaitGL on OU-MVLP.

    python run_train.py --config=configs/oumvlp_gaitgl.py --workdir=<dir>

Published rank-1, excluding identical views, all probes, mean over 14 probe views (Yu et al., ACM MM 2022, Table 2):
l_s, which section 3.5 advises where clothes do not change, and triplet_ce ("GaitGL"; 89.9 in the OpenGait model zoo),
whose cross entropy is smoothed by 0.1 as in the released configuration.
Another loss: `--config=configs/oumvlp_gaitgl.py:as_released`, see configs/loss_recipes.py.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import FROM_SPLIT, finish, oumvlp, parse

PUBLISHED = {"triplet_ce": {"official": {"NM": 89.7}}, "l_s": {"official": {"NM": 90.5}}}


def get_config(argument: str = "l_s") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment]."""
    choice = parse(argument)
    config = oumvlp(choice, ce_scale=1.0)
    if choice.recipe == "triplet_ce":
        config.loss.cross_entropy.smoothing = 0.1
    model = {
        "name": "gaitgl",
        "channels": (32, 64, 128, 256),
        "depth": 2,
        "halvings": 1,
        "features": 256,
        "bins": (64,),
        "height": 64,
        "num_classes": FROM_SPLIT,
    }
    config.data.update({"sequences_per_subject": 8, "order": "ordered"})
    config.optim.update({"schedule": "cosine", "min_learning_rate": 1e-4, "warmup_steps": 4000})
    config.train.steps = 210_000
    return finish(config, model, choice, PUBLISHED)
