"""The weighted sum of the terms that a config names.

loss_fn = make_loss({"s_triplet": {"weight": 1.0}, "simce": {"weight": 1.0}, "cross_entropy": {"weight": 1.0}})
loss, metrics = loss_fn(output, labels, step, key)
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gil_jax.losses.cross_entropy import CrossEntropy
from gil_jax.losses.parts import over_parts
from gil_jax.losses.s_triplet import STriplet
from gil_jax.losses.simce import MSimCE, SimCE
from gil_jax.losses.statistics import feature_statistics
from gil_jax.losses.terms import LogitTerm, PairTerm, Statistics, Term, without_gradient
from gil_jax.types import ModelOutput

TERMS: dict[str, type[Term]] = {term.name: term for term in (STriplet, SimCE, MSimCE, CrossEntropy)}


@runtime_checkable
class LossConfig(Protocol):
    """Term -> fields: a dict, or the ConfigDict of a config."""

    def items(self) -> Iterable[tuple[str, Any]]:
        """Pairs of a term's name and its fields."""
        ...


@runtime_checkable
class Loss(Protocol):
    """The loss of a training step."""

    def __call__(
        self, output: ModelOutput, labels: Int[Array, " n"], step: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Statistics]:
        """Loss of the global batch, and its metrics."""
        ...


def make_loss(loss_config: LossConfig) -> Loss:
    """Build the loss from a config, term -> fields; see `TERMS`.

    The loss is a function (output, labels, step, key) -> (loss, metrics). output: of the global batch; labels: -1 on
    rows that take no part; step: for the schedules; key: draws the part of the filter. Its value is the weighted sum
    of the terms, each averaged over its parts. metrics: scalars without gradient, a term's value under its name, its
    statistics under "<term>/<statistic>".
    Raises ValueError for a term or field that does not exist; the loss raises it for cross entropy without logits.
    """
    terms = _parse(loss_config)
    of_pairs = {name: term for name, term in terms.items() if isinstance(term, PairTerm)}
    of_logits = {name: term for name, term in terms.items() if isinstance(term, LogitTerm)}

    def loss_fn(
        output: ModelOutput, labels: Int[Array, " n"], step: Int[Array, ""], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Statistics]:
        loss, metrics = jnp.float32(0), {}
        if of_pairs:
            loss, metrics = _sum_of_pair_terms(of_pairs, output.embeddings, labels, step, key)
        for name, term in of_logits.items():
            if output.logits is None:
                raise ValueError(
                    f"config.loss.{name} needs logits, which this network has not: give it a classifier by "
                    f"config.model.num_classes, or set config.loss.{name}.weight=0"
                )
            value = jnp.mean(term.value(output.logits, labels))
            loss, metrics = loss + term.weight_at(step) * value, {**metrics, name: value}
        return loss, without_gradient(metrics)

    return loss_fn


def _parse(loss_config: LossConfig) -> dict[str, Term]:
    """The terms that take part; ValueError for a name or field that does not exist, or if none takes part."""
    terms = {}
    for name, values in loss_config.items():
        if name not in TERMS:
            raise ValueError(f"config.loss.{name}: no such term: choose among {', '.join(TERMS)}")
        known = [field.name for field in fields(TERMS[name])]
        strange = sorted(set(values) - set(known))
        if strange:
            raise ValueError(f"config.loss.{name}.{strange[0]}: no such field: choose among {', '.join(known)}")
        values = {**values, "schedule": tuple(tuple(change) for change in values.get("schedule", ()))}
        terms[name] = TERMS[name](**values)
    used = {name: term for name, term in terms.items() if term.is_used()}
    if not used:
        raise ValueError(f"config.loss: no term has a weight: give one of {', '.join(TERMS)} a weight above 0")
    return used


def _sum_of_pair_terms(
    terms: dict[str, PairTerm],
    embeddings: Float[Array, "n p d"],
    labels: Int[Array, " n"],
    step: Int[Array, ""],
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Statistics]:
    """Weighted sum of the pair terms, and their statistics. All terms share the inner products of a part."""
    weights = {name: term.weight_at(step) for name, term in terms.items()}
    prepared = {name: term.prepare(embeddings, labels, step, key) for name, term in terms.items()}

    def part_loss(pairs, context, extra):
        weights, prepared = extra
        total, statistics = jnp.float32(0), feature_statistics(pairs, context.classes)
        for name, term in terms.items():
            value, of_term = term.value(pairs, context, prepared[name])
            total += weights[name] * value
            statistics |= {name: value} | {f"{name}/{key}": of_term[key] for key in of_term}
        return total, statistics

    losses, statistics = over_parts(part_loss, embeddings, labels, (weights, prepared))
    return jnp.mean(losses), {name: jnp.mean(values) for name, values in statistics.items()}
