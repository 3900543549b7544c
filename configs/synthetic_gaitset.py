"""A small GaitSet on synthetic walkers: the whole way on a laptop, nothing to download.

    python run_train.py --config=configs/synthetic_gaitset.py --workdir=<dir>

The first run makes the walkers and builds the array records under `config.data.dir`; later runs find them there.
"""

from ml_collections import ConfigDict

from configs.rows import casia_b

VIEWS = tuple(f"{view:03d}" for view in range(0, 181, 18))


def get_config(recipe: str = "triplet"):
    """recipe: the loss, `--config=configs/synthetic_gaitset.py:gil`."""
    config = casia_b(recipe)
    config.synthetic = ConfigDict({"subjects": 60, "seed": 0, "views": VIEWS, "frames": (20, 28)})
    config.model.update(
        {
            "name": "gaitset",
            "channels": (8, 16, 32),
            "features": 64,
            "bins": (16, 8, 4, 2, 1),
            "height": 64,
            "dtype": "float32",
        }
    )
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
