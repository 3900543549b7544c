"""Parts that the rows share: the argument of a config, a data set's fields, the classifier, the published numbers."""

from typing import NamedTuple

from ml_collections import ConfigDict

from configs.base import base_config
from configs.loss_recipes import RECIPES, loss_recipe

FROM_SPLIT = -1  # of model.num_classes: as many classes as the split trains people
SPLITS = ("st", "mt", "lt", "lt_without_005")  # of CASIA-B
# Rows #2 to #5 of the paper's Table 3: one erased rectangle, clothes dilated, the same in all frames of a sequence.
AUGMENTATION = {
    "order": ("erase", "dilate"),
    "erase": {"probability": 0.5, "area": (0.02, 0.05), "ratio": (0.3, 1 / 0.3)},
    "dilate": {"probability": 0.5, "rows": (8, 56)},  # 3x3 ellipse; rows of 64
}


# The augmentations of OpenGait's rows of GaitBase and DeepGaitV2, which draw apart for every sequence.
GEOMETRIC = {
    "order": ("perspective", "flip", "rotate"),
    "perspective": {"probability": 0.2},
    "flip": {"probability": 0.2},
    "rotate": {"probability": 0.2, "degrees": 10.0},
}
TURN_AND_ERASE = {
    "order": ("rotate", "erase"),
    "rotate": {"probability": 0.3, "degrees": 10.0},
    "erase": {"probability": 0.3, "area": (0.05, 0.2), "ratio": (0.3, 1 / 0.3)},
}


class Choice(NamedTuple):
    """Argument of a config. split: "" for the row's own; augmented: with the paper's augmentation."""

    recipe: str
    split: str
    augmented: bool


def parse(argument: str, augmented: tuple[str, ...] = ()) -> Choice:
    """Parse the argument of a config, "<recipe>[,<split of CASIA-B>][,augment or no_augment]".

    augmented: the recipes that the row augments without being asked. Raises ValueError for any other word.
    """
    recipe, *words = argument.split(",")
    loss_recipe(recipe)
    splits = [word for word in words if word in SPLITS]
    switches = [word for word in words if word in ("augment", "no_augment")]
    if strange := [word for word in words if word not in (*SPLITS, "augment", "no_augment")]:
        raise ValueError(
            f"config argument {argument!r}: {strange[0]!r} is neither a split ({', '.join(SPLITS)}) nor augment, "
            f"no_augment; the recipe stands first ({', '.join(RECIPES)})"
        )
    if len(splits) > 1 or len(switches) > 1:
        raise ValueError(f"config argument {argument!r}: give one split, and one of augment, no_augment")
    split = splits[0] if splits else ""
    return Choice(recipe, split, recipe in augmented if not switches else switches == ["augment"])


def casia_b(choice: Choice, ce_scale: float = 16.0) -> ConfigDict:
    """CASIA-B, 8 people x 16 sequences x 30 unordered frames, trained on 74 people ("lt") unless chosen otherwise."""
    config = _row(choice, ce_scale)
    config.data.update({"name": "casia_b", "protocol": "casia_b", "split": choice.split or "lt"})
    return config


def oumvlp(choice: Choice, ce_scale: float = 16.0) -> ConfigDict:
    """OU-MVLP, 32 people x 16 sequences x 30 unordered frames, trained on 5,153 people ("official")."""
    if choice.split:
        raise ValueError(f"config argument {choice.split!r}: a split of CASIA-B; OU-MVLP has one split")
    config = _row(choice, ce_scale)
    config.data.update({"name": "oumvlp", "protocol": "oumvlp", "split": "official", "subjects_per_batch": 32})
    config.train.update({"checkpoint_every": 5000})
    return config


def in_the_wild(choice: Choice, name: str, split: str = "official", protocol: str = "") -> ConfigDict:
    """Build a data set with one partition, which OpenGait keeps in a JSON file where `split` names one.

    protocol: by default of the data set's name.
    """
    if choice.split:
        raise ValueError(f"config argument {choice.split!r}: a split of CASIA-B; this data set has one split")
    config = _row(choice, ce_scale=16.0)
    config.data.update({"name": name, "protocol": protocol or name, "split": split})
    return config


def residual(config: ConfigDict, choice: Choice, augment: dict, decay_steps: tuple[int, ...], steps: int) -> None:
    """Set what OpenGait's rows of GaitBase and DeepGaitV2 share: cross entropy smoothed by 0.1, SGD, steps.

    augment: the row's own augmentation, in place of the paper's; empty: the row has none.
    """
    if choice.recipe == "triplet_ce":
        config.loss.cross_entropy.smoothing = 0.1
    if choice.augmented and augment:
        config.data.augment = ConfigDict(augment)
    config.optim.decay_steps = decay_steps
    config.train.steps = steps


def gaitbase(classes: int = FROM_SPLIT) -> dict:
    """GaitBase as published; classes: where the split is a file, the people that it trains."""
    return {
        "name": "gaitbase",
        "channels": (64, 128, 256, 512),
        "blocks": (1, 1, 1, 1),
        "features": 256,
        "bins": (16,),
        "use_neck": False,
        "height": 64,
        "num_classes": classes,
    }


def deepgaitv2(blocks: tuple[int, ...], classes: int = FROM_SPLIT) -> dict:
    """DeepGaitV2 p3d as published; classes: where the split is a file, the people that it trains."""
    return gaitbase(classes) | {"name": "deepgaitv2", "mode": "p3d", "blocks": blocks}


def ordered(config: ConfigDict, frames: int = 30) -> None:
    """Draw ordered frames from a window that is four frames longer, as every row of DeepGaitV2 does."""
    config.data.update({"frames": frames, "order": "ordered", "skip": 4})


def adam(config: ConfigDict) -> None:
    """Choose Adam 1e-4 without weight decay."""
    config.optim.update({"optimizer": "adam", "learning_rate": 1e-4, "weight_decay": 0.0})


def nm_bg_cl(nm: float, bg: float, cl: float) -> dict[str, float]:
    """Published rank-1 on CASIA-B, in percent, excluding identical views."""
    return {"NM": nm, "BG": bg, "CL": cl}


def finish(config: ConfigDict, model: dict, choice: Choice, published: dict[str, dict]) -> ConfigDict:
    """Set the model, and the published numbers of exactly this network, recipe and augmentation.

    model: the constructor's fields. num_classes stands there for a network that always has a classifier; others get one
    where the recipe has cross entropy (ours, see docs/loss.md).
    published: "<recipe>" or "<recipe>,augment" -> split -> probe set -> rank-1.
    """
    classes = FROM_SPLIT if "cross_entropy" in config.loss else 0
    config.model.update({"num_classes": classes, **model, "dtype": "float32"})
    recipe = "l_s" if choice.recipe == "gil" else choice.recipe
    rates = published.get(f"{recipe},augment" if choice.augmented else recipe, {})
    if rates:
        row = {"model": config.model, "loss": config.loss, "augment": config.data.augment}
        config.expected = ConfigDict({"row": ConfigDict(row).to_dict(), config.data.name: rates})
    return config


def _row(choice: Choice, ce_scale: float) -> ConfigDict:
    config = base_config()
    config.loss = loss_recipe(choice.recipe)
    if "cross_entropy" in config.loss:
        config.loss.cross_entropy.scale = ce_scale
    if any(config.loss.get(name, {}).get("similarity") == "dot" for name in ("simce", "m_simce")):
        # Ours: at weight 1 and rate 0.1 embeddings of GaitSet grow without bound within a dozen steps, and those of
        # GaitGL fall together, see docs/loss.md. The paper says nothing of it; its gradient of SimCE was 1/8 of this.
        config.optim.clip_norm = 1.0
    if choice.augmented:
        config.data.augment = ConfigDict(AUGMENTATION)
    return config
