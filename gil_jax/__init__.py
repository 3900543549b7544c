"""Gait recognition with the Generalized Inter-class Loss in JAX and Flax.

load(workdir) -> Model with `embed`; Gallery(path) with `enroll`, `identify`, `verify` and `forget`; embed_to_file keeps
embeddings, evaluate and compare rank them. Nothing is imported and no device is started before a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gil_jax.embed_file import embed_to_file
    from gil_jax.evaluate_file import compare, evaluate
    from gil_jax.gallery import Gallery
    from gil_jax.model import Model, load
    from gil_jax.raw_input import open_silhouettes

__all__ = ["Gallery", "Model", "compare", "embed_to_file", "evaluate", "load", "open_silhouettes"]

_HOMES = {
    "Gallery": "gil_jax.gallery",
    "Model": "gil_jax.model",
    "compare": "gil_jax.evaluate_file",
    "embed_to_file": "gil_jax.embed_file",
    "evaluate": "gil_jax.evaluate_file",
    "load": "gil_jax.model",
    "open_silhouettes": "gil_jax.raw_input",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gil_jax' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
