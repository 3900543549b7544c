"""What every pairwise loss starts from: the classes of a batch's rows, and the inner products of one part's rows.

Distances, cosines and all triplets follow from the inner products [n, n]: the embeddings are touched twice, by one
matrix product forward and one backward.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Classes(NamedTuple):
    """Who is whose positive. A label of -1 marks a row that only fills the batch: it is nobody's positive or negative.

    same, different: bool [n, n], symmetric; a row is its own positive.
    size: int32 [n], rows in this row's class; 0 for a filling row.
    rank: int32 [n], how many rows of its class come before this row.
    order: int32 [n], the rows, class by class; first: int32 [n], where a row's class begins in it.
    largest: int32, rows in the largest class.
    """

    same: Any
    different: Any
    size: Any
    rank: Any
    order: Any
    first: Any
    largest: Any


def classes_of(labels) -> Classes:
    """Labels int32 [n] -> Classes. Classes may have any sizes, known only when the program runs."""
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


def positives_of(matrix, k, classes: Classes, filler):
    """Of matrix [n, n] (other row, anchor), the entries at every anchor's k-th positive [n]; filler if it has fewer."""
    anchors = jnp.arange(len(classes.order))
    rows = classes.order[jnp.minimum(classes.first + k, len(anchors) - 1)]
    return jnp.where(k < classes.size, matrix[rows, anchors], filler)


class Pairs(NamedTuple):
    """The inner products of the rows of one part.

    The rows are taken about their mean and divided by a power of two, which costs no digit: products about the mean
    keep the digits of small distances that plain products lose, and squares of rows as long as 1e18 do not overflow.

    centred: float32 [n, n], (x_i - mean) (x_j - mean) / scale^2.
    along: float32 [n], (x_i - mean) mean / scale^2; mean_squared: float32, mean mean / scale^2; scale: float32.
    """

    centred: Any
    along: Any
    mean_squared: Any
    scale: Any


@jax.custom_vjp
def _inner_products(rows):
    """Rows [n, d] -> [n, n]. Backward, both factors' shares are added first and multiplied once."""
    return jnp.matmul(rows, rows.T, precision=lax.Precision.HIGHEST)


def _inner_products_forward(rows):
    return _inner_products(rows), rows


def _inner_products_backward(rows, slope):
    return (jnp.matmul(slope + slope.T, rows, precision=lax.Precision.HIGHEST),)


_inner_products.defvjp(_inner_products_forward, _inner_products_backward)


def pairs_of(rows, labels) -> Pairs:
    """Rows float32 [n, d] of one part, labels int32 [n] -> Pairs. Filling rows count as zeros."""
    real = (labels >= 0)[:, None]
    rows = jnp.where(real, rows, 0.0)
    fixed = lax.stop_gradient(rows)
    largest = jnp.max(jnp.abs(fixed))
    _, exponent = jnp.frexp(jnp.where(largest > 0, largest, 1.0))
    scale = jnp.ldexp(jnp.float32(1), exponent - 1)
    mean = jnp.sum(fixed / scale, 0) / jnp.maximum(jnp.sum(real, dtype=jnp.float32), 1.0)
    rows = jnp.where(real, rows / scale - mean, 0.0)
    along = jnp.matmul(rows, mean, precision=lax.Precision.HIGHEST)
    return Pairs(_inner_products(rows), along, jnp.sum(mean**2), scale)


def _diagonal(matrix):
    return jnp.sum(jnp.where(jnp.eye(len(matrix), dtype=bool), matrix, 0.0), 0)


def _root(square):
    """The square root, with slope 0 at 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def _inverse_root(square):
    """1 / sqrt, 0 at 0."""
    positive = square > 0
    return jnp.where(positive, 1.0 / jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def distances(pairs: Pairs):
    """Euclidean distances [n, n] of the rows of one part. Equal rows are at 0, with slope 0."""
    squares = _diagonal(pairs.centred)
    return pairs.scale * _root(squares[:, None] + squares - 2 * pairs.centred)


def _scaled_products(pairs: Pairs):
    return pairs.centred + (pairs.along[:, None] + pairs.along + pairs.mean_squared)


def dot_products(pairs: Pairs):
    """Inner products x_i x_j [n, n] of one part; those beyond float32 are infinite."""
    return _scaled_products(pairs) * pairs.scale * pairs.scale


def to_cosines(products):
    """Inner products [n, n] -> cosines [n, n]; 0 where a row is all zeros."""
    inverse = _inverse_root(_diagonal(products))
    return products * (inverse[:, None] * inverse)


def cosines(pairs: Pairs):
    """Cosines [n, n] of the rows of one part; 0 where a row is all zeros."""
    return to_cosines(_scaled_products(pairs))
