"""Plain layers that the networks share. n sequences, s frames, h rows, w columns, c channels, p parts, d features.

Maps are in the network's compute dtype; from the horizontal pooling on everything is float32, at no cost.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from gil_jax.ops.convolution import convolve
from gil_jax.types import ModelOutput

Silhouettes = UInt8[Array, "n s h w"]  # what every network takes
FrameMask = Bool[Array, "n s"]
Frames = Float[Array, "n s h w c"]


class Convolution(nnx.Module):
    """Convolution without bias, [n, s, h, w, c] -> [n, s, h / stride, w / stride, out]; see `convolve`.

    kernel_size: (height, width) or (time, height, width). Initialised xavier uniform.
    """

    def __init__(
        self, channels: int, out: int, kernel_size: tuple, *, strips: int = 1, stride: int = 1, rngs: nnx.Rngs
    ):
        initialise = nnx.initializers.xavier_uniform()
        self.kernel = nnx.Param(initialise(rngs.params(), (*kernel_size, channels, out), jnp.float32))
        self.strips, self.stride = strips, stride

    def __call__(self, frames: Frames) -> Float[Array, "n s rows columns out"]:
        """Convolve the frames."""
        return convolve(frames, self.kernel[...], strips=self.strips, stride=self.stride)


class Block(nnx.Module):
    """Two convolutions with a LeakyReLU after each, [n, s, h, w, c] -> [n, s, h, w, out]; the first may be 5x5."""

    def __init__(self, channels: int, out: int, *, first_size: int = 3, strips: int = 1, rngs: nnx.Rngs):
        self.first = Convolution(channels, out, (first_size, first_size), strips=strips, rngs=rngs)
        self.second = Convolution(out, out, (3, 3), strips=strips, rngs=rngs)

    def __call__(self, frames: Frames) -> Float[Array, "n s h w out"]:
        """Apply both convolutions."""
        return leaky_relu(self.second(leaky_relu(self.first(frames))))


class PartLinear(nnx.Module):
    """A separate linear layer for every part, float32 [n, p, c] -> [n, p, d].

    Initialised uniform(-b, b), b = sqrt(6 / (c d + p d)), as PyTorch's xavier initialises a tensor [p, c, d].
    """

    def __init__(self, parts: int, channels: int, features: int, *, rngs: nnx.Rngs):
        bound = math.sqrt(6 / (channels * features + parts * features))
        shape = (parts, channels, features)
        self.kernel = nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

    def __call__(self, parts: Float[Array, "n p c"]) -> Float[Array, "n p d"]:
        """Apply each part's layer."""
        return part_product(parts, self.kernel[...])


def part_product(parts: Float[Array, "n p c"], kernel: Float[Array | np.ndarray, "p c d"]) -> Float[Array, "n p d"]:
    """Multiply each part by its own matrix."""
    return jnp.einsum("npc,pcd->npd", parts, kernel)


def normalise(x: Float[Array, "*shape"], axis: int) -> Float[Array, "*shape"]:
    """Divide x by its length along an axis, or by 1e-12 where it is shorter, as PyTorch does."""
    squared = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squared, 1e-24))


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation over all axes but the last, with PyTorch's numbers.

    Momentum 0.1 in PyTorch's sense (0.9 in flax's), eps 1e-5, scales initialised N(1, 0.02); the running variance is
    the unbiased one, while the batch is normalised by the biased one. In training the statistics cover all rows of
    the batch, or with a frame_mask its real frames: training batches hold no rows that only fill them up.
    train_bias=False keeps the bias (0, or the value of a checkpoint) among the statistics, where no optimiser sees it.
    """

    scale: nnx.Param
    bias: nnx.Param

    def __init__(self, features: int, *, train_bias: bool = True, rngs: nnx.Rngs):
        super().__init__(
            features,
            momentum=0.9,
            epsilon=1e-5,
            use_bias=train_bias,
            scale_init=lambda key, shape, dtype: 1 + 0.02 * jax.random.normal(key, shape, dtype),
            rngs=rngs,
        )
        if not train_bias:
            self.fixed_bias = nnx.BatchStat(jnp.zeros((features,), jnp.float32))

    def __call__(
        self, x: Float[Array | np.ndarray, "n *rows c"], frame_mask: FrameMask | None = None
    ) -> Float[Array, "n *rows c"]:
        """Normalise x; frame_mask: of x [n, s, ..., c]. The result has the dtype of x and is computed in float32."""
        x = jnp.asarray(x)
        values = x.astype(jnp.float32)
        mean, variance = self.mean[...], self.var[...]
        if not self.use_running_average:
            real = jnp.ones((), bool) if frame_mask is None else over_frames(frame_mask, x)
            weights = real.astype(jnp.float32)
            axes = tuple(range(x.ndim - 1))
            rows = jnp.sum(weights) * (math.prod(x.shape[:-1]) // weights.size)
            mean = jnp.sum(values * weights, axes) / rows
            variance = jnp.sum(jnp.square(values - mean) * weights, axes) / rows
            unbiased = variance * rows / jnp.maximum(rows - 1, 1)
            self.mean[...] = self.momentum * self.mean[...] + (1 - self.momentum) * mean
            self.var[...] = self.momentum * self.var[...] + (1 - self.momentum) * unbiased
        bias = self.bias[...] if self.use_bias else self.fixed_bias[...]
        return ((values - mean) * (self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)) + bias).astype(x.dtype)


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
    normed = norm(embeddings.reshape(embeddings.shape[0], -1)).reshape(embeddings.shape)
    return part_product(normalise(normed, axis=-1), normalise(classifier.kernel[...], axis=1))


class NeckHead(nnx.Module):
    """Part-linear embeddings, and a classifier of cosines behind a BatchNorm (Luo et al., CVPRW 2019).

    float32 [n, p, c] -> embeddings [n, p, features], logits [n, p, num_classes] in -1 .. 1. use_neck: in evaluation
    the embeddings are the normalised ones, which the classifier sees.
    """

    def __init__(self, parts: int, channels: int, features: int, num_classes: int, *, use_neck: bool, rngs: nnx.Rngs):
        self.head = PartLinear(parts, channels, features, rngs=rngs)
        self.norm = BatchNorm(features * parts, rngs=rngs)
        self.classifier = PartLinear(parts, features, num_classes, rngs=rngs)
        self.use_neck = use_neck

    def __call__(self, pooled: Float[Array, "n p c"]) -> ModelOutput:
        """Embeddings and logits. The neck's statistics are in the order of OpenGait: feature by feature."""
        embeddings = self.head(pooled)
        n, p, d = embeddings.shape
        flat = embeddings.swapaxes(1, 2).reshape(n, d * p)
        normed = normalise(self.norm(flat).reshape(n, d, p).swapaxes(1, 2), axis=-1)
        logits = part_product(normed, normalise(self.classifier.kernel[...], axis=1))
        evaluated_behind_neck = self.use_neck and self.norm.use_running_average
        return ModelOutput(normed if evaluated_behind_neck else embeddings, logits)


def scale_silhouettes(silhouettes: Silhouettes, height: int, dtype: jnp.dtype) -> Float[Array, "n s h w 1"]:
    """Scale silhouettes to 0 .. 1.

    Raises ValueError where their height is not the network's.
    """
    if silhouettes.shape[2] != height:
        raise ValueError(
            f"silhouettes of height {silhouettes.shape[2]} for a network with model.height={height}: "
            "set model.height and data.height alike"
        )
    return (silhouettes[..., None].astype(jnp.float32) / 255).astype(dtype)


def leaky_relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """LeakyReLU with PyTorch's gradient 0.01 below and at zero."""
    return jnp.where(x > 0, x, x * jnp.asarray(0.01, x.dtype))


def max_pool(frames: Frames) -> Float[Array, "n s rows columns c"]:
    """Maximum of every 2x2 pixels; an odd last row or column is dropped."""
    n, s, h, w, c = frames.shape
    frames = frames[:, :, : h - h % 2, : w - w % 2]
    return frames.reshape(n, s, h // 2, 2, w // 2, 2, c).max(axis=(3, 5))


def over_frames(frame_mask: FrameMask, frames: Array) -> Bool[Array, "n s *ones"]:
    """Append axes to a mask until it has as many as the frames [n, s, ...]."""
    return frame_mask.reshape(*frame_mask.shape, *[1] * (frames.ndim - 2))


def zero_padding(frames: Float[Array, "n s *shape"], frame_mask: FrameMask) -> Float[Array, "n s *shape"]:
    """Set padded frames to zero, which a convolution over time sees beyond the end of a sequence on its own."""
    return jnp.where(over_frames(frame_mask, frames), frames, jnp.zeros((), frames.dtype))


def max_over_frames(frames: Float[Array, "n s *shape"], frame_mask: FrameMask) -> Float[Array, "n 1 *shape"]:
    """Maximum over the real frames."""
    lowest = jnp.full((), -jnp.inf, frames.dtype)
    return jnp.where(over_frames(frame_mask, frames), frames, lowest).max(axis=1, keepdims=True)


def horizontal_pooling(maps: Float[Array, "n h w c"], bins: tuple) -> Float[Array, "n p c"]:
    """Mean + max of horizontal strips, for every strip count in `bins`; in float32."""
    n, _, _, c = maps.shape
    maps = maps.astype(jnp.float32)
    strips = [maps.reshape(n, count, -1, c) for count in bins]
    return jnp.concatenate([strip.mean(axis=2) + strip.max(axis=2) for strip in strips], axis=1)


def check_bins(bins: tuple, height: int, *, halvings: int, copies: int = 1) -> None:
    """Raise ValueError unless the rows of the last map can be cut into equal strips.

    halvings: of the height in the network, which then stacks `copies` of the map.
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


def check_halvings(halvings: int, rows: int, height: int) -> None:
    """Raise ValueError unless a map of `rows` rows can be cut into 2^halvings equal strips."""
    if halvings < 0 or rows % 2**halvings:
        raise ValueError(
            f"model.halvings={halvings}: {rows} rows (model.height={height}) cannot be cut into 2^{halvings} strips"
        )


def check_channels(channels: tuple, stages: tuple) -> None:
    """Raise ValueError unless there is one positive width for each stage; stages: the possible stage counts."""
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
    """Raise ValueError if no number of classes is given to a network with logits."""
    if num_classes < 1:
        raise ValueError(f"model.num_classes={num_classes}: {name} has a classifier; give the number of subjects")


def compute_dtype(dtype: str) -> jnp.dtype:
    """Return the dtype of a name, float32 or bfloat16; raise ValueError for any other."""
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f'model.dtype={dtype!r}: choose "float32" or "bfloat16"')
    return jnp.dtype(dtype)
