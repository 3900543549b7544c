"""The networks by name."""

import inspect

from flax import nnx

from gil_jax.models.baseline import Baseline
from gil_jax.models.gaitgl import GaitGL
from gil_jax.models.gaitpart import GaitPart
from gil_jax.models.gaitset import GaitSet
from gil_jax.models.gln import GLN

MODELS = {"baseline": Baseline, "gaitset": GaitSet, "gaitpart": GaitPart, "gaitgl": GaitGL, "gln": GLN}


def build_model(model_config, rngs: nnx.Rngs) -> nnx.Module:
    """The network {"name": ..., <fields of its constructor>}.

    Raises ValueError for a name or a field that does not exist, and for values that do not fit each other.
    """
    fields = dict(model_config)
    name = fields.pop("name", None)
    if name not in MODELS:
        raise ValueError(f"model.name={name!r}: choose one of {', '.join(MODELS)}")
    known = [field for field in inspect.signature(MODELS[name].__init__).parameters if field not in ("self", "rngs")]
    if unknown := [field for field in fields if field not in known]:
        raise ValueError(f"model.{unknown[0]} is no field of {name}, which has {', '.join(known)}")
    return MODELS[name](**fields, rngs=rngs)
