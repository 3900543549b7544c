"""Cross entropy on the logits of a classifier."""

import jax
import jax.numpy as jnp


def cross_entropy(logits, labels, scale: float = 1.0, smoothing: float = 0.0):
    """Softmax cross entropy with label smoothing, part by part.

        (1 - e) * mean_i(-log q_ip[label_i]) + e * mean_{i, p, c}(-log q_ip[c]),   q = softmax(scale * logits)

    logits: float32 [n, p, k]; labels: int32 [n] below k, -1 for rows that take no part. scale: what the logits are
    multiplied by, 16 where they are cosines. smoothing: e, 0 to 1. Returns float32 [p]; 0 without real rows.
    Source: the released code (smoothing averages over the parts too); Szegedy et al., CVPR 2016, section 7.
    """
    real = (labels >= 0)[:, None]
    log_q = jax.nn.log_softmax(logits * scale, axis=-1)
    picked = jnp.take_along_axis(log_q, jnp.maximum(labels, 0)[:, None, None], axis=-1)[..., 0]
    each = -(1.0 - smoothing) * picked - smoothing * jnp.mean(log_q, (1, 2))[:, None]
    return jnp.sum(jnp.where(real, each, 0.0), 0) / jnp.maximum(jnp.sum(real, dtype=jnp.float32), 1.0)
