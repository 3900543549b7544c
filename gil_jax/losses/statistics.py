"""Logged statistics of the embeddings."""

import jax.numpy as jnp

from gil_jax.losses.terms import Statistics, mean_where, without_gradient
from gil_jax.ops.pairs import Classes, Pairs, cosines, distances


def feature_statistics(pairs: Pairs, classes: Classes) -> Statistics:
    """Distances, alignment and uniformity of the embeddings of one part, without gradient.

    positive_distance, negative_distance: mean Euclidean distance of two different rows of one class, of two classes.
    alignment: mean |u_i - u_j|^2 of two different rows of one class; uniformity: log mean_{i != j}
    exp(-2 |u_i - u_j|^2); u the normalised rows (Wang and Isola, ICML 2020). 0 where there is no such pair.
    """
    pairs = without_gradient(pairs)
    distance, apart = distances(pairs), 2.0 - 2.0 * cosines(pairs)
    same, different = classes.same & ~jnp.eye(len(distance), dtype=bool), classes.different
    potential = mean_where(jnp.exp(-2.0 * apart), same | different)
    return {
        "positive_distance": mean_where(distance, same),
        "negative_distance": mean_where(distance, different),
        "alignment": mean_where(apart, same),
        "uniformity": jnp.log(jnp.where(potential > 0, potential, 1.0)),
    }
