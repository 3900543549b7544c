"""What every pairwise loss starts from: the inner products of a batch, one matrix a part, and the classes of its rows.

Only inner products [p, n, n] leave this file: distances, cosines and all triplets of an anchor follow from them, so the
embeddings [n, p, d] are touched twice, by one matrix product forward and one backward.
"""

from functools import partial
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
    """labels int32 [n] -> Classes. Classes may have any sizes, known only when the program runs."""
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
    """The inner products of the rows of one part (or, with a leading axis p, of all parts).

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
    """rows [p, n, d] -> [p, n, n]. Backward, both factors' shares are added first and multiplied once."""
    return jnp.einsum("pid,pjd->pij", rows, rows, precision=lax.Precision.HIGHEST)


def _inner_products_forward(rows):
    return _inner_products(rows), rows


def _inner_products_backward(rows, slope):
    both = slope + slope.swapaxes(1, 2)
    return (jnp.einsum("pij,pjd->pid", both, rows, precision=lax.Precision.HIGHEST),)


_inner_products.defvjp(_inner_products_forward, _inner_products_backward)


def pairs_of(embeddings, labels) -> Pairs:
    """embeddings float32 [n, p, d], labels int32 [n] -> Pairs with a leading axis p. Filling rows count as zeros."""
    real = (labels >= 0)[:, None, None]
    count = jnp.maximum(jnp.sum(real, dtype=jnp.float32), 1.0)
    embeddings = jnp.where(real, embeddings, 0.0)
    fixed = lax.stop_gradient(embeddings)
    largest = jnp.max(jnp.abs(fixed), axis=(0, 2))
    _, exponent = jnp.frexp(jnp.where(largest > 0, largest, 1.0))
    scale = jnp.ldexp(jnp.ones_like(largest), exponent - 1)
    mean = jnp.sum(fixed / scale[:, None], 0) / count
    rows = jnp.where(real, embeddings / scale[:, None] - mean, 0.0).transpose(1, 0, 2)
    along = jnp.einsum("pid,pd->pi", rows, mean, precision=lax.Precision.HIGHEST)
    return Pairs(_inner_products(rows), along, jnp.sum(mean**2, -1), scale)


def _root(square):
    """The square root, with slope 0 at 0."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def distances(pairs: Pairs):
    """Euclidean distances [n, n] of the rows of one part. Equal rows are at 0, with slope 0."""
    squares = jnp.diagonal(pairs.centred)
    return pairs.scale * _root(squares[:, None] + squares - 2 * pairs.centred)


def _scaled_products(pairs: Pairs):
    return pairs.centred + pairs.along[:, None] + pairs.along + pairs.mean_squared


def dot_products(pairs: Pairs):
    """Inner products x_i x_j [n, n] of one part; those beyond float32 are infinite."""
    return _scaled_products(pairs) * pairs.scale * pairs.scale


def cosines(pairs: Pairs):
    """Cosines [n, n] of the rows of one part; 0 where a row is all zeros."""
    products = _scaled_products(pairs)
    squares = jnp.diagonal(products)
    inverse = jnp.where(squares > 0, lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return products * inverse[:, None] * inverse


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def part_by_part(loss, pairs: Pairs, rest):
    """loss(pairs of one part, rest) -> (scalar, statistics), over the parts of `pairs` one after the other.

    Value and slope of a part are computed together while its matrices are in the cache; only its slope [n, n] is kept.
    Returns (float32 [p], statistics with a leading axis p). `rest` and the statistics carry no gradient.
    """
    return lax.map(lambda part: loss(part, rest), pairs)


def _part_by_part_forward(loss, pairs, rest):
    def one(part):
        def of_products(centred, along):
            return loss(part._replace(centred=centred, along=along), rest)

        return jax.value_and_grad(of_products, argnums=(0, 1), has_aux=True)(part.centred, part.along)

    values, (centred, along) = lax.map(one, pairs)
    return values, (centred, along)


def _part_by_part_backward(loss, slopes, cotangents):
    del loss
    centred, along = slopes
    weight = cotangents[0]
    return Pairs(centred * weight[:, None, None], along * weight[:, None], None, None), None


part_by_part.defvjp(_part_by_part_forward, _part_by_part_backward)
