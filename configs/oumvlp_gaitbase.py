"""GaitBase on OU-MVLP (OpenGait's gaitbase_oumvlp).

    python run_train.py --config=configs/oumvlp_gaitbase.py --workdir=<dir>

Published rank-1 (OpenGait model zoo), excluding identical views: 90.8.
Another loss: `--config=configs/oumvlp_gaitbase.py:l_s`, see configs/loss_recipes.py.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import finish, gaitbase, oumvlp, parse, residual


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument)
    config = oumvlp(choice)
    config.data.sequences_per_subject = 8
    residual(config, choice, {}, (60_000, 80_000, 100_000), 120_000)
    return finish(config, gaitbase(), choice, {"triplet_ce": {"official": {"NM": 90.8}}})
