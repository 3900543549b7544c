"""Classes of a batch's rows, and distances, cosines and inner products of all pairs of rows of one part.

Everything follows from the matrix of inner products [n, n], so the embeddings take part in one matrix product forward
and one backward. Axes: n rows (sequences), d features; all functions look at one part.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Classes(NamedTuple):
    """Rows of the batch that share a class. Rows labelled -1 are padding: no positives and no negatives of any row.

    same, different: symmetric; a row is its own positive.
    size: rows in this row's class, 0 for padding. rank: rows of its class that come before this row.
    order: the rows sorted by class; first: index of the row's class in `order`.
    largest: rows in the largest class.
    """

    same: Bool[Array, "n n"]
    different: Bool[Array, "n n"]
    size: Int[Array, " n"]
    rank: Int[Array, " n"]
    order: Int[Array, " n"]
    first: Int[Array, " n"]
    largest: Int[Array, ""]


def classes_of(labels: Int[Array, " n"]) -> Classes:
    """Compute the classes of the labels. Their sizes may differ, and are known only when the program runs."""
    real = labels >= 0
    equal = labels[:, None] == labels
    same = equal & real
    different = ~equal & real & real[:, None]
    rows = jnp.arange(len(labels))
    size = jnp.sum(same, 1, dtype=jnp.int32)
    return Classes(
        same=same,
        different=different,
        size=size,
        rank=jnp.sum(same & (rows < rows[:, None]), 1, dtype=jnp.int32),
        order=jnp.argsort(labels, stable=True).astype(jnp.int32),
        first=jnp.sum(labels < labels[:, None], 1, dtype=jnp.int32),
        largest=jnp.max(size),
    )


def positives_of(matrix: Float[Array, "n n"], k: Int[Array, ""], classes: Classes, filler: float) -> Float[Array, " n"]:
    """Select the entry at the k-th positive of every anchor from matrix (other row, anchor); filler if it has fewer."""
    anchors = jnp.arange(len(classes.order))
    rows = classes.order[jnp.minimum(classes.first + k, len(anchors) - 1)]
    return jnp.where(k < classes.size, matrix[rows, anchors], filler)


class Pairs(NamedTuple):
    """Inner products of the rows of one part, about their mean.

    Products about the mean keep the digits of small distances that plain products lose. Rows are divided by a power of
    two, which costs no digit, so that squares of rows as long as 1e18 do not overflow.

    centred: (x_i - mean) (x_j - mean) / scale^2. along: (x_i - mean) mean / scale^2; mean_squared: mean mean / scale^2.
    """

    centred: Float[Array, "n n"]
    along: Float[Array, " n"]
    mean_squared: Float[Array, ""]
    scale: Float[Array, ""]


@jax.custom_vjp
def _inner_products(rows: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """Multiply rows with themselves. Backward, the gradients of both factors are added first and multiplied once."""
    return jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)


def _inner_products_forward(rows):
    return _inner_products(rows), rows


def _inner_products_backward(rows, gradient):
    return (jnp.matmul(gradient + gradient.T, rows, precision=lax.Precision.HIGHEST),)


_inner_products.defvjp(_inner_products_forward, _inner_products_backward)


def pairs_of(rows: Float[Array, "n d"], labels: Int[Array, " n"]) -> Pairs:
    """Compute the inner products of one part's embeddings. Padding rows count as zeros, whatever they hold."""
    real = (labels >= 0)[:, None]
    rows = jnp.where(real, rows, 0.0)
    fixed = lax.stop_gradient(rows)
    largest = jnp.max(jnp.abs(fixed))
    _, exponent = jnp.frexp(jnp.where(largest > 0, largest, 1.0))
    scale = jnp.ldexp(jnp.float32(1), exponent - 1)
    # No gradient through the mean: distances do not depend on it, and `along` and `mean_squared` restore the products.
    mean = jnp.sum(fixed / scale, 0) / jnp.maximum(jnp.sum(real, dtype=jnp.float32), 1.0)
    rows = jnp.where(real, rows / scale - mean, 0.0)
    along = jnp.matmul(rows, mean, precision=lax.Precision.HIGHEST)
    return Pairs(_inner_products(rows), along, jnp.sum(mean**2), scale)


def _diagonal(matrix):
    return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool), matrix, 0.0), 0)


def _root(square):
    """Square root, with gradient 0 at 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def _inverse_root(square):
    """Inverse square root, 0 at 0."""
    positive = square > 0
    return jnp.where(positive, 1.0 / jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def distances(pairs: Pairs) -> Float[Array, "n n"]:
    """Euclidean distances of the rows of one part. Equal rows are at 0, with gradient 0."""
    squares = _diagonal(pairs.centred)
    return pairs.scale * _root(squares[:, None] + squares - 2 * pairs.centred)


def _scaled_products(pairs: Pairs):
    return pairs.centred + (pairs.along[:, None] + pairs.along + pairs.mean_squared)


def dot_products(pairs: Pairs) -> Float[Array, "n n"]:
    """Inner products x_i x_j of one part; those beyond float32 are infinite."""
    return _scaled_products(pairs) * pairs.scale * pairs.scale


def cosines(pairs: Pairs) -> Float[Array, "n n"]:
    """Cosines of the rows of one part; 0 where a row is all zeros."""
    products = _scaled_products(pairs)
    inverse = _inverse_root(_diagonal(products))
    return products * (inverse[:, None] * inverse)
