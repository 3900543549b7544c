"""A small GaitSet on synthetic walkers: the whole way on a laptop, nothing to download.

    python run_train.py --config=configs/synthetic_gaitset.py --workdir=<dir>

The first run makes the walkers and builds the array records under `config.data.dir`; later runs find them there.
Another loss: `--config=configs/synthetic_gaitset.py:l_s`, see configs/loss_recipes.py.
"""

from ml_collections import ConfigDict

from configs.rows import Choice, casia_b, finish, parse

VIEWS = tuple(f"{view:03d}" for view in range(0, 181, 18))


def get_config(argument: str = "triplet") -> ConfigDict:
    """Build the row. argument: <recipe>[,augment]."""
    choice = parse(argument)
    model = {"name": "gaitset", "channels": (8, 16, 32), "features": 64, "bins": (16, 8, 4, 2, 1), "height": 64}
    return finish(synthetic(choice), model, choice, {})


def synthetic(choice: Choice, ce_scale: float = 16.0) -> ConfigDict:
    """Build the fields of the synthetic rows, without the model."""
    config = casia_b(choice, ce_scale)
    config.synthetic = ConfigDict({"subjects": 60, "seed": 0, "views": VIEWS, "frames": (20, 28)})
    config.data.name = "synthetic"
    config.data.split = "first-44"
    config.data.sequences_per_subject = 4
    config.data.frames = 8
    config.data.workers = 0
    config.optim.decay_steps = (375,)
    config.eval.length_buckets = 2
    config.train.steps = 500
    config.train.log_every = 20
    config.train.checkpoint_every = 200
    return config
