"""The two kinds of loss: terms of the pairs of a part, and terms of the logits.

A loss is one frozen dataclass: its formula in the docstring, its parameters with their defaults as fields, its value as
a method. `on_embeddings` and `on_logits` derive its functional form, so that a default stands once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gil_jax.losses.parts import BatchContext, over_parts
from gil_jax.ops.pairs import Pairs

Statistics = dict[str, Float[Array, ""]]


@dataclass(frozen=True, kw_only=True)
class Term:
    """Fields that every term of the total loss has.

    name: of the term in configs and metrics.
    weight: its coefficient; 0 without a schedule leaves the term out.
    schedule: ((step, weight), ...), coefficients from those steps on.
    """

    name: ClassVar[str]
    weight: float = 1.0
    schedule: tuple[tuple[int, float], ...] = ()

    def weight_at(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Coefficient at a traced step."""
        weight = jnp.float32(self.weight)
        for start, later in self.schedule:
            weight = jnp.where(step >= start, jnp.float32(later), weight)
        return weight

    def is_used(self) -> bool:
        """Whether the coefficient is ever different from 0."""
        return self.weight != 0 or any(weight != 0 for _, weight in self.schedule)


class PairTerm(Term):
    """A loss of the pairs of one part, averaged over the parts."""

    def prepare(
        self,
        embeddings: Float[Array, "n p d"],
        labels: Int[Array, " n"],
        step: Int[Array, ""],
        key: Key[Array, ""] | None,
    ) -> Any:
        """Compute what `value` needs from the other parts, once a batch. Arrays without gradient; default: nothing."""
        del embeddings, labels, step, key

    def value(self, pairs: Pairs, context: BatchContext, prepared: Any) -> tuple[Float[Array, ""], Statistics]:
        """Loss of one part, and its statistics. prepared: the result of `prepare`."""
        raise NotImplementedError


class LogitTerm(Term):
    """A loss of the logits of a classifier, averaged over the parts."""

    def value(self, logits: Float[Array, "n p k"], labels: Int[Array, " n"]) -> Float[Array, " p"]:
        """Loss of every part."""
        raise NotImplementedError


AnyPairTerm = TypeVar("AnyPairTerm", bound=PairTerm)
AnyLogitTerm = TypeVar("AnyLogitTerm", bound=LogitTerm)


def on_embeddings(term: type[AnyPairTerm]) -> Callable[..., tuple[Float[Array, " p"], dict[str, Float[Array, " p"]]]]:
    """Derive the functional form of a pair term: (embeddings, labels, **fields) -> loss and statistics of every part.

    It also takes step (int32) and key (a JAX key), which the filter of `simce` reads.
    """

    def loss(
        embeddings: Float[Array, "n p d"],
        labels: Int[Array, " n"],
        *,
        step: int | Int[Array, ""] = 0,
        key: Key[Array, ""] | None = None,
        **fields: Any,
    ) -> tuple[Float[Array, " p"], dict[str, Float[Array, " p"]]]:
        chosen = term(**fields)
        prepared = chosen.prepare(embeddings, labels, jnp.asarray(step, jnp.int32), key)
        return over_parts(chosen.value, embeddings, labels, prepared)

    loss.__doc__ = term.__doc__
    return loss


def on_logits(term: type[AnyLogitTerm]) -> Callable[..., Float[Array, " p"]]:
    """Derive the functional form of a logit term: (logits, labels, **fields) -> loss of every part."""

    def loss(logits: Float[Array, "n p k"], labels: Int[Array, " n"], **fields: Any) -> Float[Array, " p"]:
        return term(**fields).value(logits, labels)

    loss.__doc__ = term.__doc__
    return loss


def check_choice(term: Term, field: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the field of the term has one of the values."""
    value = getattr(term, field)
    if value not in choices:
        raise ValueError(f"config.loss.{term.name}.{field}={value!r}: choose one of {', '.join(choices)}")


def mean_where(values: Float[Array, "n n"], chosen: Any) -> Float[Array, ""]:
    """Mean of the chosen entries, 0 if there are none. Columns are added first: fastest on a CPU."""
    total = jnp.sum(jnp.sum(jnp.where(chosen, values, 0.0), 0))
    return total / jnp.maximum(jnp.sum(chosen, dtype=jnp.float32), 1.0)


def without_gradient(tree: Any) -> Any:
    """Stop the gradient at every array of a pytree."""
    return jax.tree.map(jax.lax.stop_gradient, tree)
