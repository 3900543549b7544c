"""The terms of the Generalized Inter-class Loss, and the pieces of them that look at one part.

Yu, Yu, Huang, Wang: Generalized Inter-class Loss for Gait Recognition, ACM MM 2022 (arXiv 2210.06779). n sequences,
p parts, d features. Labels are int32 [n], -1 for rows that take no part. Every term returns (loss float32 [p],
statistics, a dict of float32 [p]).
"""

import jax
import jax.numpy as jnp
from jax import lax

from gil_jax.losses.parts import Surroundings, over_parts
from gil_jax.ops.pairs import Classes, Pairs, cosines, distances, dot_products, pairs_of, to_cosines
from gil_jax.ops.triplets import hinge_over_triplets, number_of_triplets, softplus_over_triplets

COLLAPSE = 0.1  # of the margin: this near to it, and distances this small, mean that all embeddings are one
SIMILARITIES = {"dot": dot_products, "cosine": cosines, "distance": lambda pairs: -distances(pairs)}


def _mean(values, chosen):
    """Mean of values [n, n] where chosen, 0 if there are none. Adding up columns first is what CPUs are fast at."""
    total = jnp.sum(jnp.sum(jnp.where(chosen, values, 0.0), 0))
    return total / jnp.maximum(jnp.sum(chosen, dtype=jnp.float32), 1.0)


def _unlikeness(cosine):
    """U = 1 - (cos + 1) / 2 + 0.01: 0.01 for the same direction, 1.01 for opposite ones."""
    return 1.0 - (cosine + 1.0) / 2.0 + 0.01


def part_weighted_triplet(pairs: Pairs, surroundings: Surroundings, margin: float, weighted: bool):
    """`weighted_triplet` of one part."""
    classes = surroundings.classes
    distance = distances(pairs)
    if weighted:
        largest = _unlikeness(surroundings.least_cosine)
        distance *= lax.stop_gradient(1.0 + _unlikeness(cosines(pairs)) / largest)
    loss, number = hinge_over_triplets(distance, classes, jnp.float32(margin))
    distance = lax.stop_gradient(distance)
    furthest_positive = jnp.max(jnp.where(classes.same, distance, -jnp.inf), 0)
    nearest_negative = jnp.min(jnp.where(classes.different, distance, jnp.inf), 0)
    hardest = jnp.maximum(jnp.max(furthest_positive - nearest_negative) + margin, 0.0)
    mean_distance = _mean(distance, classes.same | classes.different)
    collapsed = (jnp.abs(hardest - margin) < COLLAPSE * margin) & (mean_distance < COLLAPSE * margin)
    return loss, {
        "nonzero": number,
        "nonzero_share": number / jnp.maximum(number_of_triplets(classes), 1.0),
        "hardest": hardest,
        "mean_distance": mean_distance,
        "collapsed": collapsed.astype(jnp.float32),
    }


def weighted_triplet(embeddings, labels, margin: float = 0.2, weighted: bool = True):
    """Triplet loss whose pairs weigh more the less they look alike (L_m, the margin form).

        mean over non-zero triplets of relu(w_ap d_ap - w_an d_an + margin),   w_ij = 1 + u_ij / max u
        u_ij = 1 - (cos_ij + 1) / 2 + 0.01, the maximum over all pairs and parts of the batch, no gradient through w

    embeddings: float32 [n, p, d]. An anchor is its own positive. weighted=False: w = 1, the plain triplet loss (batch
    all, Hermans et al., arXiv 1703.07737). Statistics: number and share of non-zero triplets; the hardest one; mean
    w d; collapsed, 1 where the hardest triplet is about the margin and the mean distance about 0.
    Source: the paper; the weights as in the released code.
    """
    part = lambda pairs, surroundings, _: part_weighted_triplet(pairs, surroundings, margin, weighted)  # noqa: E731
    return over_parts(part, embeddings, labels, ())


def part_pair_softplus(pairs: Pairs, classes: Classes, judge, doubt, temperature: float, similarity: str):
    """`pair_softplus` of one part; judge: similarities [n, n] of the part that judges the triplets, or None."""
    logits = SIMILARITIES[similarity](pairs) / temperature
    loss, wrong = softplus_over_triplets(logits, classes, judge, doubt)
    return loss, {"wrong_share": wrong / jnp.maximum(number_of_triplets(classes), 1.0)}


def similarities_of_part(embeddings, labels, picked, similarity: str):
    """The similarities [n, n] of the part with index `picked`, without gradient."""
    rows = lax.dynamic_index_in_dim(lax.stop_gradient(embeddings), picked, axis=1, keepdims=False)
    return SIMILARITIES[similarity](pairs_of(rows, labels))


def pair_softplus(
    embeddings, labels, temperature: float = 0.1, similarity: str = "dot", picked=None, doubt: float = 0.5
):
    """Soft form of the triplet loss, without a fixed margin (L_s; `infonce` in the released code).

        mean over all triplets of softplus((s_an - s_ap) / T)

    embeddings: float32 [n, p, d]. similarity: "dot" x_i x_j as released; "cosine"; "distance" -|x_i - x_j|. An anchor
    is its own positive. picked: int32, filtered form: triplets with s_an > s_ap in this part weigh `doubt` in all
    parts. Statistics: share of triplets with s_an > s_ap. Source: the paper; T and the filter as in the released
    code; "cosine" and "distance" are ours.
    """
    judge = None if picked is None else similarities_of_part(embeddings, labels, picked, similarity)

    def part(pairs, surroundings, given):
        return part_pair_softplus(pairs, surroundings.classes, *given, temperature, similarity)

    return over_parts(part, embeddings, labels, (judge, jnp.float32(doubt)))


def part_class_uniformity(pairs: Pairs, classes: Classes, t: float):
    """`class_uniformity` of one part."""
    size = jnp.maximum(classes.size.astype(jnp.float32), 1.0)
    averaging = classes.same.astype(jnp.float32) / size[:, None]
    products = dot_products(pairs._replace(scale=jnp.float32(1)))  # cosines do not see the scale
    means = jnp.linalg.multi_dot([averaging, products, averaging.T], precision=lax.Precision.HIGHEST)
    apart = 2.0 - 2.0 * to_cosines(means)
    # Every row stands for its class, so a pair of classes is met size * size times.
    weight = jnp.where(classes.different, 1.0 / (size[:, None] * size), 0.0)
    number = jnp.sum(weight)
    potential = jnp.sum(weight * jnp.exp(-t * apart)) / jnp.where(number > 0, number, 1.0)
    return jnp.log(jnp.where(number > 0, potential, 1.0)), {}


def class_uniformity(embeddings, labels, t: float = 2.0):
    """How evenly the classes of the batch lie on the sphere: the smaller, the further apart. Class level of the loss.

        log mean_{i != j} exp(-t |m_i - m_j|^2),   m_i the normalised mean embedding of class i in the batch

    embeddings: float32 [n, p, d]; 0 with fewer than two classes. Source: OUR READING of the paper, which names a
    class-level uniformity; the released code has none. The uniformity of Wang and Isola, ICML 2020, of class means.
    """
    part = lambda pairs, surroundings, _: part_class_uniformity(pairs, surroundings.classes, t)  # noqa: E731
    return over_parts(part, embeddings, labels, ())


def feature_statistics(pairs: Pairs, classes: Classes) -> dict:
    """What the embeddings of one part look like: float32 scalars without gradient.

    positive_distance, negative_distance: mean Euclidean distance of two different rows of one class, of two classes.
    alignment: mean |u_i - u_j|^2 of two different rows of one class; uniformity: log mean_{i != j}
    exp(-2 |u_i - u_j|^2); u the normalised rows (Wang and Isola, ICML 2020). 0 where there is no such pair.
    """
    pairs = jax.tree.map(lax.stop_gradient, pairs)
    distance, apart = distances(pairs), 2.0 - 2.0 * cosines(pairs)
    same, different = classes.same & ~jnp.eye(len(distance), dtype=bool), classes.different
    potential = _mean(jnp.exp(-2.0 * apart), same | different)
    return {
        "positive_distance": _mean(distance, same),
        "negative_distance": _mean(distance, different),
        "alignment": _mean(apart, same),
        "uniformity": jnp.log(jnp.where(potential > 0, potential, 1.0)),
    }
