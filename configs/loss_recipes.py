"""The losses a network can be trained with: term -> fields. A config takes the name of one as its argument."""

from ml_collections import ConfigDict

PLAIN_TRIPLET = {"weight": 1.0, "schedule": (), "margin": 0.2, "weighted": False}
WEIGHTED_TRIPLET = PLAIN_TRIPLET | {"weighted": True}
PAIR_SOFTPLUS = {
    "weight": 1.0,
    "schedule": (),  # ((step, weight), ...): the weight from those steps on
    "temperature": 0.2,  # of distances: as wide as the margin of the hinge; see docs/loss.md for others
    "similarity": "distance",  # or "cosine", "dot"
    "filter_from_step": -1,  # first step of the filtered form; -1: never
    "doubt": 0.5,  # weight of a triplet that the filter's part gets wrong
}
CLASS_UNIFORMITY = {"weight": 0.1, "schedule": (), "t": 2.0}
CROSS_ENTROPY = {"weight": 1.0, "schedule": (), "scale": 1.0, "smoothing": 0.0}
RECIPES = {
    # The plain baseline of GaitSet, GaitPart, GLN: batch-all triplet loss, margin 0.2.
    "triplet": {"triplet": PLAIN_TRIPLET},
    # The paper's margin form, sample level: the weighted triplet loss, as the released CASIA-B configuration has it.
    "l_m": {"triplet": WEIGHTED_TRIPLET},
    # The paper's soft form, sample level. On distances (ours): its slope does not depend on how long embeddings are.
    "l_s": {"pair_softplus": PAIR_SOFTPLUS},
    # Sample and class level together. The class level is our reading of the paper: nothing of it was released.
    "gil": {"triplet": WEIGHTED_TRIPLET, "pair_softplus": PAIR_SOFTPLUS, "class_uniformity": CLASS_UNIFORMITY},
    # What the released configuration for GaitGL on OU-MVLP sums up: raw inner products, filtered after 50,000 steps.
    # The rows of networks without a classifier leave its cross entropy out.
    "as_released": {
        "triplet": WEIGHTED_TRIPLET,
        "pair_softplus": PAIR_SOFTPLUS | {"similarity": "dot", "temperature": 0.1, "filter_from_step": 50_000},
        "cross_entropy": CROSS_ENTROPY | {"smoothing": 0.1},
    },
}


def loss_recipe(name: str) -> ConfigDict:
    """The loss config of a recipe: triplet, l_m, l_s, gil, as_released."""
    if name not in RECIPES:
        raise ValueError(f"no loss recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return ConfigDict(RECIPES[name])
