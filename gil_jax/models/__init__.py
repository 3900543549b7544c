"""The networks by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from flax import nnx
from ml_collections import ConfigDict

from gil_jax.models.baseline import Baseline
from gil_jax.models.deepgaitv2 import DeepGaitV2
from gil_jax.models.gaitbase import GaitBase
from gil_jax.models.gaitgl import GaitGL
from gil_jax.models.gaitpart import GaitPart
from gil_jax.models.gaitset import GaitSet
from gil_jax.models.gln import GLN
from gil_jax.ops.convolution import METHODS

MODELS = {
    "baseline": Baseline,
    "gaitset": GaitSet,
    "gaitpart": GaitPart,
    "gaitgl": GaitGL,
    "gln": GLN,
    "gaitbase": GaitBase,
    "deepgaitv2": DeepGaitV2,
}


def build_model(model_config: Mapping[str, Any] | ConfigDict, rngs: nnx.Rngs) -> nnx.Module:
    """Build the network {"name": ..., <fields of its constructor>}.

    Raises ValueError for a name or a field that does not exist, and for values that do not fit each other.
    """
    # A config that was read from JSON has lists where its row has tuples.
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in model_config.items()}
    name = fields.pop("name", None)
    if name not in MODELS:
        raise ValueError(f"model.name={name!r}: choose one of {', '.join(MODELS)}")
    if (method := fields.pop("convolution", "auto")) not in METHODS:
        raise ValueError(f"model.convolution={method!r}: choose one of {', '.join(METHODS)}")
    known = [field for field in inspect.signature(MODELS[name].__init__).parameters if field not in ("self", "rngs")]
    if unknown := [field for field in fields if field not in known]:
        raise ValueError(f"model.{unknown[0]} is no field of {name}, which has {', '.join(known)}")
    return MODELS[name](**fields, rngs=rngs)
