"""The networks by name."""

import inspect

from flax import nnx

from gil_jax.models.gaitset import GaitSet

MODELS = {"gaitset": GaitSet}


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
