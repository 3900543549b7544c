"""What the rows of the recipe table share: a data set's fields, a loss that fits the network, the schedules."""

from ml_collections import ConfigDict

from configs.base import base_config
from configs.loss_recipes import CROSS_ENTROPY, loss_recipe


def casia_b(recipe: str, classifier: ConfigDict | None = None) -> ConfigDict:
    """CASIA-B, 8 people x 16 sequences x 30 unordered frames, trained on 74 people ("lt")."""
    config = base_config()
    config.loss = _loss(recipe, classifier)
    config.data.update({"name": "casia_b", "protocol": "casia_b", "split": "lt"})
    return config


def oumvlp(recipe: str, classifier: ConfigDict | None = None) -> ConfigDict:
    """OU-MVLP, 32 people x 16 sequences x 30 unordered frames, trained on 5,153 people ("official")."""
    config = base_config()
    config.loss = _loss(recipe, classifier)
    config.data.update({"name": "oumvlp", "protocol": "oumvlp", "split": "official", "subjects_per_batch": 32})
    config.train.update({"checkpoint_every": 5000})
    return config


def adam(config: ConfigDict) -> None:
    """Adam 1e-4 without weight decay."""
    config.optim.update({"optimizer": "adam", "learning_rate": 1e-4, "weight_decay": 0.0})


def cross_entropy(weight: float, **fields) -> ConfigDict:
    """The loss of a classifier, for `casia_b` and `oumvlp`."""
    return ConfigDict(CROSS_ENTROPY | {"weight": weight} | fields)


def _loss(recipe: str, classifier: ConfigDict | None) -> ConfigDict:
    """A recipe, with the row's cross entropy; a network without classifier takes no cross entropy from the recipe."""
    loss = loss_recipe(recipe)
    if "cross_entropy" in loss:
        if classifier is None:
            del loss.cross_entropy
    elif classifier is not None:
        loss.cross_entropy = classifier
    return loss
