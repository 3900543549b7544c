"""Plain layers that the networks share. n sequences, s frames, h rows, w columns, c channels, p parts, d features.

Maps are in the network's compute dtype; from the horizontal pooling on everything is float32, it costs nothing there.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from gil_jax.ops.convolution import convolve

Silhouettes = UInt8[Array | np.ndarray, "n s h w"]  # what every network takes
FrameMask = Bool[Array | np.ndarray, "n s"]


class Convolution(nnx.Module):
    """Convolution without bias, [n, s, h, w, c] -> [n, s, h, w, out]; see `convolve`.

    kernel_size: (height, width) or (time, height, width). Initialised xavier uniform.
    """

    def __init__(self, channels: int, out: int, kernel_size: tuple, *, strips: int = 1, rngs: nnx.Rngs):
        initialise = nnx.initializers.xavier_uniform()
        self.kernel = nnx.Param(initialise(rngs.params(), (*kernel_size, channels, out), jnp.float32))
        self.strips = strips

    def __call__(self, frames):
        return convolve(frames, self.kernel[...], strips=self.strips)


class Block(nnx.Module):
    """Two convolutions with a LeakyReLU after each, [n, s, h, w, c] -> [n, s, h, w, out]; the first may be 5x5."""

    def __init__(self, channels: int, out: int, *, first_size: int = 3, strips: int = 1, rngs: nnx.Rngs):
        self.first = Convolution(channels, out, (first_size, first_size), strips=strips, rngs=rngs)
        self.second = Convolution(out, out, (3, 3), strips=strips, rngs=rngs)

    def __call__(self, frames):
        return leaky_relu(self.second(leaky_relu(self.first(frames))))


class PartLinear(nnx.Module):
    """A linear layer of its own for every part, float32 [n, p, c] -> [n, p, d].

    Initialised uniform(+-b), b = sqrt(6 / (c d + p d)): what xavier makes of a tensor [p, c, d] in PyTorch.
    """

    def __init__(self, parts: int, channels: int, features: int, *, rngs: nnx.Rngs):
        bound = math.sqrt(6 / (channels * features + parts * features))
        shape = (parts, channels, features)
        self.kernel = nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

    def __call__(self, parts):
        return part_product(parts, self.kernel[...])


def part_product(parts, kernel):
    """[n, p, c] x [p, c, d] -> [n, p, d]."""
    return jnp.einsum("npc,pcd->npd", parts, kernel)


def normalise(x, axis: int):
    """X over its length along the axis, at least 1e-12 as in PyTorch."""
    squared = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation over the leading axes, with PyTorch's numbers: momentum 0.1 (0.9 here), eps 1e-5, and a
    running variance that is unbiased, while the batch is normalised by the biased one.

    The statistics in training mode are over all rows of the batch: training batches hold no rows that fill up.
    train_bias=False keeps the bias (0, or what a checkpoint says) among the statistics, where no optimiser sees it.
    """

    def __init__(self, features: int, *, train_bias: bool = True, rngs: nnx.Rngs):
        super().__init__(
            features,
            momentum=0.9,
            epsilon=1e-5,
            use_bias=train_bias,
            scale_init=lambda key, shape, dtype: 1 + 0.02 * jax.random.normal(key, shape, dtype),
            use_fast_variance=False,
            rngs=rngs,
        )
        if not train_bias:
            self.fixed_bias = nnx.BatchStat(jnp.zeros((features,), jnp.float32))

    def __call__(self, x):
        old = self.momentum * self.var[...]
        normalised = super().__call__(x)
        if not self.use_running_average:
            rows = x.size // x.shape[-1]
            self.var[...] = old + (self.var[...] - old) * (rows / max(rows - 1, 1))
        return normalised if self.use_bias else normalised + self.fixed_bias[...]


def bnneck(
    parts: int, features: int, num_classes: int, *, rngs: nnx.Rngs
) -> tuple[BatchNorm, PartLinear] | tuple[None, None]:
    """Build the layers of `bnneck_logits`: BatchNorm over all p * d features, class weights [p, d, k].

    (None, None) with num_classes=0. The attribute that holds the weights is called `classifier` in every network:
    `gil_jax/sharding.py` shards arrays of that name by classes.
    """
    if not num_classes:
        return None, None
    return BatchNorm(parts * features, rngs=rngs), PartLinear(parts, features, num_classes, rngs=rngs)


def bnneck_logits(
    embeddings: Float[Array, "n p d"], norm: BatchNorm | None, classifier: PartLinear | None
) -> Float[Array, "n p k"] | None:
    """Cosines between every part, after BatchNorm, and every class; None without a classifier.

    BNNeck of Luo et al., CVPRW 2019, one for every part as in OpenGait's Baseline. The embeddings themselves, which
    retrieval and the losses of pairs use, stay as they are.
    """
    if norm is None or classifier is None:
        return None
    normed = norm(embeddings.reshape(len(embeddings), -1)).reshape(embeddings.shape)
    return part_product(normalise(normed, axis=-1), normalise(classifier.kernel[...], axis=1))


def scale_silhouettes(silhouettes, height: int, dtype):
    """uint8 [n, s, h, w] -> [n, s, h, w, 1] between 0 and 1.

    Raises ValueError where the height is not that of the network.
    """
    if silhouettes.shape[2] != height:
        raise ValueError(
            f"silhouettes of height {silhouettes.shape[2]} for a network with model.height={height}: "
            "set model.height and data.height alike"
        )
    return (silhouettes[..., None].astype(jnp.float32) / 255).astype(dtype)


def leaky_relu(x):
    """Slope 0.01 below and at zero, as in PyTorch."""
    return jnp.where(x > 0, x, x * jnp.asarray(0.01, x.dtype))


def max_pool(frames):
    """The maximum of every 2x2 pixels; an odd last row or column is dropped. [n, s, h, w, c] -> [n, s, h/2, w/2, c]."""
    n, s, h, w, c = frames.shape
    frames = frames[:, :, : h - h % 2, : w - w % 2]
    return frames.reshape(n, s, h // 2, 2, w // 2, 2, c).max(axis=(3, 5))


def over_frames(frame_mask, frames):
    """Bool [n, s] with as many axes as the frames [n, s, ...]."""
    return frame_mask.reshape(*frame_mask.shape, *[1] * (frames.ndim - 2))


def zero_padding(frames, frame_mask):
    """The frames with zeros where they only pad: what a convolution along the frames sees past the end."""
    return jnp.where(over_frames(frame_mask, frames), frames, jnp.zeros((), frames.dtype))


def max_over_frames(frames, frame_mask):
    """The maximum over the real frames. [n, s, ...], bool [n, s] -> [n, 1, ...]."""
    lowest = jnp.full((), -jnp.inf, frames.dtype)
    return jnp.where(over_frames(frame_mask, frames), frames, lowest).max(axis=1, keepdims=True)


def horizontal_pooling(maps, bins: tuple):
    """Mean + max of horizontal strips, for every number of strips in `bins`. [n, h, w, c] -> float32 [n, p, c]."""
    n, _, _, c = maps.shape
    maps = maps.astype(jnp.float32)
    strips = [maps.reshape(n, count, -1, c) for count in bins]
    return jnp.concatenate([strip.mean(axis=2) + strip.max(axis=2) for strip in strips], axis=1)


def check_bins(bins: tuple, height: int, *, halvings: int, copies: int = 1):
    """Raises ValueError where the rows of the last map cannot be cut into equal strips.

    The network halves the height so many times, then stacks so many copies of it.
    """
    rows = copies * (height >> halvings)
    if height < 1 or height % (1 << halvings):
        raise ValueError(f"model.height={height}: the network halves it {halvings} times; choose 64 or 128")
    wrong = [count for count in bins if count < 1 or rows % count]
    if wrong or not bins:
        raise ValueError(
            f"model.bins={tuple(bins)}: {wrong or 'none'} do not divide the {rows} rows that model.height={height} "
            f"leaves; choose divisors of {rows}"
        )


def check_halvings(halvings: int, rows: int, height: int):
    """Raises ValueError where a map of so many rows cannot be cut into 2^halvings equal strips."""
    if halvings < 0 or rows % 2**halvings:
        raise ValueError(
            f"model.halvings={halvings}: {rows} rows (model.height={height}) cannot be cut into 2^{halvings} strips"
        )


def check_channels(channels: tuple, stages: tuple):
    """Raises ValueError unless there is one positive width for each stage; stages: the possible numbers of them."""
    if len(channels) not in stages or min(channels) < 1:
        numbers = " or ".join(map(str, stages))
        raise ValueError(f"model.channels={tuple(channels)}: give {numbers} positive widths, one for each stage")


def check_optional_classifier(num_classes: int) -> None:
    """Raise ValueError for a negative number of classes; 0 leaves the classifier out."""
    if num_classes < 0:
        raise ValueError(
            f"model.num_classes={num_classes}: give the number of training subjects, or 0 for no classifier"
        )


def check_classifier(name: str, num_classes: int) -> None:
    """Raise ValueError where a network whose classifier is not optional has no classes."""
    if num_classes < 1:
        raise ValueError(f"model.num_classes={num_classes}: {name} has a classifier; give the number of subjects")


def compute_dtype(dtype: str):
    """The dtype of that name, float32 or bfloat16; ValueError for anything else."""
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f'model.dtype={dtype!r}: choose "float32" or "bfloat16"')
    return jnp.dtype(dtype)
