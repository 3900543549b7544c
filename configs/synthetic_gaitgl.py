"""A small GaitGL on the synthetic walkers of `synthetic_gaitset`: does something hold for a second network?

    python run_train.py --config=configs/synthetic_gaitgl.py --workdir=<dir>

Another loss: `--config=configs/synthetic_gaitgl.py:gil`. The classifier trains with `as_released` alone.
"""

from configs import synthetic_gaitset
from configs.rows import cross_entropy


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
    if recipe == "as_released":
        config.loss.cross_entropy = cross_entropy(1.0, smoothing=0.1)
    config.data.frames = 9
    return config
