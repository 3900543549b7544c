"""Cross entropy on the logits of a classifier."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gil_jax.losses.terms import LogitTerm, on_logits


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(LogitTerm):
    """Softmax cross entropy with label smoothing, of every part.

        (1 - e) mean_i(-log q_ip[label_i]) + e mean_{i, p, c}(-log q_ip[c]),   q = softmax(scale * logits)

    Labels are below k; -1 marks rows that take no part. scale: factor of the logits, 16 where they are cosines.
    smoothing: e, from 0 to 1. 0 without real rows.
    Source: Yu et al., ACM MM 2022, Eq. 11; smoothing, whose mean goes over the parts too, as in the released code.
    """

    name: ClassVar[str] = "cross_entropy"
    scale: float = 1.0
    smoothing: float = 0.0

    def value(self, logits: Float[Array, "n p k"], labels: Int[Array, " n"]) -> Float[Array, " p"]:
        """Loss of every part."""
        real = labels >= 0
        # Zeros in padding rows before the logarithm: masking afterwards would leave the gradient of a NaN there.
        log_q = jax.nn.log_softmax(jnp.where(real[:, None, None], logits, 0.0) * self.scale, axis=-1)
        picked = jnp.take_along_axis(log_q, jnp.maximum(labels, 0)[:, None, None], axis=-1)[..., 0]
        each = -(1.0 - self.smoothing) * picked - self.smoothing * jnp.mean(log_q, (1, 2))[:, None]
        return jnp.sum(jnp.where(real[:, None], each, 0.0), 0) / jnp.maximum(jnp.sum(real, dtype=jnp.float32), 1.0)


cross_entropy = on_logits(CrossEntropy)
