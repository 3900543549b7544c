"""Fields of a config that follow from its other fields."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from gil_jax.data.protocols import count_training_subjects, load_protocol

FROM_SPLIT = -1  # of config.model.num_classes


def resolve(config: ConfigDict) -> ConfigDict:
    """Copy a config, with the people of its split in place of config.model.num_classes=-1.

    The number is that of config.data.split and config.data.protocol alone: of a published split all people count, also
    where the data lack some. Raises ValueError where the split is neither published, "first-N" nor a readable file.
    """
    config = ConfigDict(config.to_dict())
    if config.model.get("num_classes") == FROM_SPLIT:
        protocol = load_protocol(config.data.protocol)
        config.model.num_classes = count_training_subjects(config.data.split, protocol)
    return config


def published_rank1(config: ConfigDict) -> dict[str, float] | None:
    """Published rank-1 of exactly this config in percent, probe set -> excluding identical views, or None.

    Compared are data set, split, network, loss and augmentation. The number of classes, the dtype and the way
    of the CPU's convolutions may differ.
    """
    expected = json.loads(config.expected.to_json())
    if not expected or _row(config.model, config.loss, config.data.augment) != _row(**expected["row"]):
        return None
    split = Path(config.data.split).name.replace(".", "_")  # of a file "Gait3D.json" the numbers stand at Gait3D_json
    return expected.get(config.data.name, {}).get(split)


def _row(model, loss, augment) -> list[dict]:
    """Plain dicts and lists, as in JSON, without the fields that may differ."""
    model, *others = (json.loads(json.dumps(dict(part), default=dict)) for part in (model, loss, augment))
    return [{name: model[name] for name in model if name not in ("num_classes", "dtype", "convolution")}, *others]
