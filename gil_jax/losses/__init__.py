"""The weighted sum of the losses that a config names.

loss_fn = make_loss({"triplet": {"weight": 1.0, "margin": 0.2}, "cross_entropy": {"weight": 0.1, "scale": 16.0}})
loss, metrics = loss_fn(output, labels, step, key)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp

from gil_jax.losses.cross_entropy import cross_entropy
from gil_jax.losses.inter_class import (
    SIMILARITIES,
    class_uniformity,
    feature_statistics,
    pair_softplus,
    part_class_uniformity,
    part_pair_softplus,
    part_weighted_triplet,
    similarities_of_part,
    weighted_triplet,
)
from gil_jax.losses.parts import over_parts
from gil_jax.types import ModelOutput

__all__ = ["TERMS", "class_uniformity", "cross_entropy", "make_loss", "pair_softplus", "weighted_triplet"]


@dataclass(frozen=True, kw_only=True)
class Term:
    """weight: of the term in the sum; 0 leaves it out. schedule: ((step, weight), ...), weights from those steps on."""

    weight: float = 1.0
    schedule: tuple = ()

    def weight_at(self, step):
        """float32 scalar for a traced int32 step."""
        weight = jnp.float32(self.weight)
        for start, later in self.schedule:
            weight = jnp.where(step >= start, jnp.float32(later), weight)
        return weight

    def is_used(self) -> bool:
        return self.weight != 0 or any(weight != 0 for _, weight in self.schedule)

    def prepare(self, embeddings, labels, step, key):
        """What every part is given, from the whole batch."""
        del embeddings, labels, step, key


@dataclass(frozen=True, kw_only=True)
class Triplet(Term):
    """Fields of `weighted_triplet`; weighted=False is the plain triplet loss."""

    margin: float = 0.2
    weighted: bool = True

    def of_part(self, pairs, surroundings, given):
        del given
        return part_weighted_triplet(pairs, surroundings, self.margin, self.weighted)


@dataclass(frozen=True, kw_only=True)
class PairSoftplus(Term):
    """Fields of `pair_softplus`. filter_from_step: first step of the filtered form, a part drawn a step; -1: never."""

    temperature: float = 0.2
    similarity: str = "distance"
    filter_from_step: int = -1
    doubt: float = 0.5

    def __post_init__(self):
        if self.similarity not in SIMILARITIES:
            raise ValueError(
                f"config.loss.pair_softplus.similarity={self.similarity!r}: choose one of {', '.join(SIMILARITIES)}"
            )
        if not self.temperature > 0:
            raise ValueError(f"config.loss.pair_softplus.temperature={self.temperature}: give a number above 0")

    def prepare(self, embeddings, labels, step, key):
        if self.filter_from_step < 0:
            return None, None
        picked = jax.random.randint(key, (), 0, embeddings.shape[1])
        doubt = jnp.where(step >= self.filter_from_step, jnp.float32(self.doubt), jnp.float32(1.0))
        return similarities_of_part(embeddings, labels, picked, self.similarity), doubt

    def of_part(self, pairs, surroundings, given):
        return part_pair_softplus(pairs, surroundings.classes, *given, self.temperature, self.similarity)


@dataclass(frozen=True, kw_only=True)
class ClassUniformity(Term):
    """Fields of `class_uniformity`."""

    t: float = 2.0

    def of_part(self, pairs, surroundings, given):
        del given
        return part_class_uniformity(pairs, surroundings.classes, self.t)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """Fields of `cross_entropy`."""

    scale: float = 1.0
    smoothing: float = 0.0


TERMS = {
    "triplet": Triplet,
    "pair_softplus": PairSoftplus,
    "class_uniformity": ClassUniformity,
    "cross_entropy": CrossEntropy,
}


def _parse(loss_config: Mapping[str, Any]) -> dict[str, Term]:
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


def _pair_losses(terms: dict, embeddings, labels, weights: dict, step, key):
    """Weighted sum of the pairwise terms, float32, and their statistics. All terms look at a part in one go."""
    prepared = {name: term.prepare(embeddings, labels, step, key) for name, term in terms.items()}

    def of_part(pairs, surroundings, given):
        weights, prepared = given
        total, statistics = jnp.float32(0), feature_statistics(pairs, surroundings.classes)
        for name, term in terms.items():
            loss, of_term = term.of_part(pairs, surroundings, prepared[name])
            total += weights[name] * loss
            statistics |= {name: loss} | {f"{name}/{key}": value for key, value in of_term.items()}
        return total, statistics

    losses, statistics = over_parts(of_part, embeddings, labels, (weights, prepared))
    return jnp.mean(losses), {name: jnp.mean(values) for name, values in statistics.items()}


def make_loss(loss_config: Mapping[str, Any]) -> Callable:
    """loss_config: term -> fields, see TERMS -> loss_fn(output, labels, step, key) -> (loss, metrics).

    output: ModelOutput of the global batch; labels: int32 [n], -1 on rows that take no part; step: int32, for the
    schedules; key: draws the part of the filter. loss: float32, the weighted sum of the terms, each averaged over its
    parts. metrics: float32 scalars without gradient: a term's value under its name, its statistics under
    "<term>/<statistic>".
    ValueError for a term or field that does not exist and for cross entropy on a network without logits.
    """
    terms = _parse(loss_config)
    pair_terms = {name: term for name, term in terms.items() if name != "cross_entropy"}
    classifier = terms.get("cross_entropy")

    def loss_fn(output: ModelOutput, labels, step, key):
        weights = {name: term.weight_at(step) for name, term in terms.items()}
        loss, metrics = jnp.float32(0), {}
        if pair_terms:
            loss, metrics = _pair_losses(pair_terms, output.embeddings, labels, weights, step, key)
        if classifier:
            if output.logits is None:
                raise ValueError(
                    "config.loss.cross_entropy: this network has no logits: set config.loss.cross_entropy.weight=0, "
                    "or train a network with a classifier"
                )
            value = jnp.mean(cross_entropy(output.logits, labels, classifier.scale, classifier.smoothing))
            loss, metrics = loss + weights["cross_entropy"] * value, metrics | {"cross_entropy": value}
        return loss, jax.tree.map(jax.lax.stop_gradient, metrics)

    return loss_fn
