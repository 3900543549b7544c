"""A small GaitGL on the synthetic walkers of `synthetic_gaitset`: does something hold for a second network?

    python run_train.py --config=configs/synthetic_gaitgl.py --workdir=<dir>

Another loss: `--config=configs/synthetic_gaitgl.py:gil`. The classifier trains only where a recipe has cross entropy.
"""

from configs import synthetic_gaitset


def get_config(recipe: str = "triplet"):
    """recipe: the loss."""
    config = synthetic_gaitset.get_config(recipe)
    config.model = {
        "name": "gaitgl",
        "channels": (8, 16, 32, 32),
        "depth": 1,
        "halvings": 3,
        "features": 64,
        "bins": (64,),
        "height": 64,
        "num_classes": 44,
        "dtype": "float32",
    }
    config.data.frames = 9
    return config
