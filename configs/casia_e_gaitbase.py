"""GaitBase on CASIA-E (OpenGait's gaitbase_casiae).

    python run_train.py --config=configs/casia_e_gaitbase.py --workdir=<dir>

Published rank-1 (OpenGait model zoo), excluding identical views: NM 91.59, BG 86.65, CL 74.73.
Another loss: `--config=configs/casia_e_gaitbase.py:l_s`, see configs/loss_recipes.py.
CASIA-E.json is OpenGait's partition, in the current folder or with `--config.data.split=<file>`.
Hardware: the sources of the numbers do not state it; nothing of this row was trained by us.
"""

from ml_collections import ConfigDict

from configs.rows import finish, gaitbase, in_the_wild, nm_bg_cl, parse, residual

PUBLISHED = {"triplet_ce": {"CASIA-E_json": nm_bg_cl(91.59, 86.65, 74.73)}}


def get_config(argument: str = "triplet_ce") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment or no_augment]."""
    choice = parse(argument)
    config = in_the_wild(choice, "casia_e", "CASIA-E.json")
    config.data.sequences_per_subject = 32
    residual(config, choice, {}, (20_000, 40_000, 50_000), 60_000)
    return finish(config, gaitbase(200), choice, PUBLISHED)
