"""The similarity-weighted triplet loss."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from gil_jax.losses.parts import BatchContext
from gil_jax.losses.terms import PairTerm, Statistics, check_choice, mean_where, on_embeddings
from gil_jax.ops.pairs import Pairs, cosines, distances
from gil_jax.ops.triplets import hinge_over_triplets, number_of_triplets

COLLAPSE = 0.1  # of the margin: hardest triplets this near to it, and distances this small, mean equal embeddings
WEIGHTS = ("released", "paper", "none")


@dataclass(frozen=True, kw_only=True)
class STriplet(PairTerm):
    """s-triplet: a triplet loss whose distances weigh more the less alike the pair is.

        mean over the non-zero triplets of relu(margin + w_ap d_ap - w_an d_an)

    d: Euclidean distance; c: cosine. An anchor is its own positive, as in the released code. No gradient goes through
    the weights. weights:

        "released"  w = 1 + u / max(u), u = (1 - c) / 2 + 0.01, the maximum over all pairs and parts of the batch
        "paper"     w = f(c) = (1 - c) / 2
        "none"      w = 1, the plain triplet loss over all triplets (Hermans et al., arXiv 1703.07737)

    Statistics: number and share of the non-zero triplets; the hardest triplet; mean_distance of w d; collapsed, 1 where
    the hardest triplet is about the margin and the mean distance about 0, that is, all embeddings are equal.
    Source: Yu et al., ACM MM 2022, Eq. 3; "released" is the weight of the code released with it.
    """

    name: ClassVar[str] = "s_triplet"
    margin: float = 0.2
    weights: str = "released"

    def __post_init__(self):
        check_choice(self, "weights", WEIGHTS)

    def value(self, pairs: Pairs, context: BatchContext, prepared: Any) -> tuple[Float[Array, ""], Statistics]:
        """Loss of one part, and its statistics."""
        del prepared
        classes = context.classes
        distance = distances(pairs)
        if self.weights == "released":
            distance *= lax.stop_gradient(1.0 + _unlikeness(cosines(pairs)) / _unlikeness(context.least_cosine))
        elif self.weights == "paper":
            distance *= lax.stop_gradient((1.0 - cosines(pairs)) / 2.0)
        loss, number = hinge_over_triplets(distance, classes, self.margin)
        distance = lax.stop_gradient(distance)
        furthest_positive = jnp.max(jnp.where(classes.same, distance, -jnp.inf), 0)
        nearest_negative = jnp.min(jnp.where(classes.different, distance, jnp.inf), 0)
        hardest = jnp.maximum(jnp.max(furthest_positive - nearest_negative) + self.margin, 0.0)
        mean_distance = mean_where(distance, classes.same | classes.different)
        collapsed = (jnp.abs(hardest - self.margin) < COLLAPSE * self.margin) & (mean_distance < COLLAPSE * self.margin)
        return loss, {
            "nonzero": number,
            "nonzero_share": number / jnp.maximum(number_of_triplets(classes), 1.0),
            "hardest": hardest,
            "mean_distance": mean_distance,
            "collapsed": collapsed.astype(jnp.float32),
        }


def _unlikeness(cosine):
    """Weight u of the released code: 0.01 for equal directions, 1.01 for opposite ones."""
    return (1.0 - cosine) / 2.0 + 0.01


s_triplet = on_embeddings(STriplet)
