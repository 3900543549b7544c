"""The cross entropy of similarities, over triplets (SimCE) and over all negatives of an anchor (m-SimCE)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from gil_jax.losses.parts import BatchContext
from gil_jax.losses.terms import PairTerm, Statistics, check_choice, on_embeddings
from gil_jax.ops.negatives import softmax_over_negatives
from gil_jax.ops.pairs import Pairs, cosines, distances, dot_products, pairs_of
from gil_jax.ops.triplets import number_of_triplets, softplus_over_triplets

SIMILARITIES: dict[str, Callable[[Pairs], Float[Array, "n n"]]] = {
    "dot": dot_products,
    "cosine": cosines,
    "distance": lambda pairs: -distances(pairs),
}


@dataclass(frozen=True, kw_only=True)
class SimilarityTerm(PairTerm):
    """Fields of both forms.

    temperature: T; 0.1 in the released code, the paper states none.
    similarity: "dot", inner products, as in the paper; "cosine" and "distance" (the negative distance) are ours.
    """

    temperature: float = 0.1
    similarity: str = "dot"

    def __post_init__(self):
        check_choice(self, "similarity", tuple(SIMILARITIES))
        if not self.temperature > 0:
            raise ValueError(f"config.loss.{self.name}.temperature={self.temperature}: give a number above 0")

    def logits(self, pairs: Pairs) -> Float[Array, "n n"]:
        """Similarities divided by the temperature."""
        return SIMILARITIES[self.similarity](pairs) / self.temperature


@dataclass(frozen=True, kw_only=True)
class SimCE(SimilarityTerm):
    """SimCE: softmax cross entropy of an anchor's similarities to one positive and one negative.

        mean over all triplets of -log(e^(s_ap / T) / (e^(s_ap / T) + e^(s_an / T))) = softplus((s_an - s_ap) / T)

    s: inner product. An anchor is its own positive. temperature, similarity: see `SimilarityTerm`.
    filter_from_step, gate_weight: from that step on, one part is drawn at random in every step, and triplets that it
    gets wrong (s_an > s_ap) weigh gate_weight in all parts; -1: never. Released code only, the paper has no filter.

    Statistics: wrong_share, the share of triplets with s_an > s_ap.
    Source: Yu et al., ACM MM 2022, Eq. 4 (`infonce` in the released code); its dynamic margin is Eq. 9.
    """

    name: ClassVar[str] = "simce"
    filter_from_step: int = -1
    gate_weight: float = 0.5

    def prepare(
        self,
        embeddings: Float[Array, "n p d"],
        labels: Int[Array, " n"],
        step: Int[Array, ""],
        key: Key[Array, ""] | None,
    ) -> Any:
        """Draw the part of the filter: its similarities and the weight of what it gets wrong; None: no filter."""
        if self.filter_from_step < 0:
            return None
        if key is None:
            raise ValueError("simce with filter_from_step draws a part: give it a key, jax.random.key(...)")
        picked = jax.random.randint(key, (), 0, embeddings.shape[1])
        weight = jnp.where(step >= self.filter_from_step, jnp.float32(self.gate_weight), jnp.float32(1.0))
        return self.gate(embeddings, labels, picked), weight

    def gate(
        self, embeddings: Float[Array, "n p d"], labels: Int[Array, " n"], picked: Int[Array, ""]
    ) -> Float[Array, "n n"]:
        """Similarities of the picked part, without gradient."""
        rows = lax.dynamic_index_in_dim(lax.stop_gradient(embeddings), picked, axis=1, keepdims=False)
        return SIMILARITIES[self.similarity](pairs_of(rows, labels))

    def value(self, pairs: Pairs, context: BatchContext, prepared: Any) -> tuple[Float[Array, ""], Statistics]:
        """Loss of one part, and its statistics."""
        loss, wrong = softplus_over_triplets(self.logits(pairs), context.classes, *(prepared or ()))
        return loss, {"wrong_share": wrong / jnp.maximum(number_of_triplets(context.classes), 1.0)}


@dataclass(frozen=True, kw_only=True)
class MSimCE(SimilarityTerm):
    """m-SimCE: softmax cross entropy of an anchor's similarities to one positive and all its negatives in the batch.

        mean over pairs (a, p) of -log(e^(s_ap / T) / (e^(s_ap / T) + sum_n e^(s_an / T)))
            = softplus(logsumexp_n(s_an / T) - s_ap / T)

    s: inner product. No code of it was released: the mean over pairs, an anchor as its own positive and T = 0.1 are
    ours, as in SimCE. temperature, similarity: see `SimilarityTerm`. 0 without negatives.

    Statistics: wrong_share, the share of pairs (a, p) with a negative of s_an > s_ap.
    Source: Yu et al., ACM MM 2022, Eq. 10.
    """

    name: ClassVar[str] = "m_simce"

    def value(self, pairs: Pairs, context: BatchContext, prepared: Any) -> tuple[Float[Array, ""], Statistics]:
        """Loss of one part, and its statistics."""
        del prepared
        loss, wrong = softmax_over_negatives(self.logits(pairs), context.classes)
        return loss, {"wrong_share": wrong}


simce = on_embeddings(SimCE)
m_simce = on_embeddings(MSimCE)
