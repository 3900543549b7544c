"""GaitGL: global and local 3-D convolutions (Lin, Zhang, Yu, ICCV 2021, arXiv 2011.01461)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt8

from gil_jax.models import layers
from gil_jax.models.layers import FrameMask, Frames, Silhouettes
from gil_jax.ops.convolution import convolve
from gil_jax.types import ModelOutput


class GlobalLocal(nnx.Module):
    """A 3-D convolution of complete frames and one of their strips, which share a second kernel.

    [n, s, h, w, c] -> [n, s, h, w, out], added after their LeakyReLU; or, stacked, [n, s, 2 h, w, out].
    """

    def __init__(self, channels: int, out: int, *, strips: int, stacked: bool = False, rngs: nnx.Rngs):
        self.whole = layers.Convolution(channels, out, (3, 3, 3), rngs=rngs)
        self.local = layers.Convolution(channels, out, (3, 3, 3), strips=strips, rngs=rngs)
        self.stacked = stacked

    def __call__(self, frames: Frames) -> Float[Array, "n s rows w out"]:
        """Convolve globally and locally."""
        whole, local = layers.leaky_relu(self.whole(frames)), layers.leaky_relu(self.local(frames))
        return jnp.concatenate([whole, local], axis=2) if self.stacked else whole + local


class TemporalConvolution(nnx.Module):
    """Three frames to one, stride 3, without padding: [n, s, h, w, c] -> [n, s // 3, h, w, out]."""

    def __init__(self, channels: int, out: int, *, rngs: nnx.Rngs):
        initialise = nnx.initializers.xavier_uniform()
        self.kernel = nnx.Param(initialise(rngs.params(), (3, 1, 1, channels, out), jnp.float32))

    def __call__(self, frames: Frames) -> Float[Array, "n triples h w out"]:
        """Convolve every three frames; the last one or two frames of a rest are dropped."""
        n, s, h, w, c = frames.shape
        triples = frames[:, : s - s % 3].reshape(n, s // 3, 3, h, w, c)
        taps = jnp.concatenate([triples[:, :, tap] for tap in range(3)], axis=-1)
        return convolve(taps, self.kernel[...].reshape(1, 1, 3 * c, -1))


class GeneralisedMean(nnx.Module):
    """(mean of x^p)^(1/p) of every strip, with a learned exponent p: [n, h, w, c] -> float32 [n, bins, c].

    Radenovic, Tolias, Chum, TPAMI 2019. x is at least 1e-6, whose 6.5th power underflows in float32: every strip is
    divided by its largest value before the mean and multiplied by it after, which changes nothing else.
    """

    def __init__(self):
        self.exponent = nnx.Param(jnp.full((1,), 6.5, jnp.float32))

    def __call__(self, maps: Float[Array, "n h w c"], bins: tuple) -> Float[Array, "n p c"]:
        """Pool the strips, for every strip count in `bins`."""
        n, _, _, c = maps.shape
        exponent, maps = self.exponent[...], jnp.maximum(maps.astype(jnp.float32), 1e-6)
        pooled = []
        for count in bins:
            strips = maps.reshape(n, count, -1, c)
            largest = jax.lax.stop_gradient(strips.max(axis=2, keepdims=True))
            mean = jnp.mean((strips / largest) ** exponent, axis=2)
            pooled.append(mean ** (1 / exponent) * largest[:, :, 0])
        return jnp.concatenate(pooled, axis=1)


class GaitGL(nnx.Module):
    """3-D convolutions over space and time; embeddings behind a BatchNorm that all parts share.

    channels: of the first convolution, before the pooling, after it, and of the last stage. depth: layers a stage.
    halvings: the local branch cuts the height into 2^halvings strips. features: of an embedding. bins: strip counts
    of the pooling. neck: the variant with BNNecks that OpenGait trains on GREW and Gait3D: embeddings before a
    BatchNorm per part, logits behind it. height: of a silhouette in pixels. Raises ValueError that names the field
    that does not fit.
    """

    def __init__(
        self,
        *,
        channels: tuple = (32, 64, 128, 128),
        depth: int = 1,
        halvings: int = 3,
        features: int = 128,
        bins: tuple = (64,),
        neck: bool = False,
        height: int = 64,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        layers.check_classifier("gaitgl", num_classes)
        layers.check_channels(channels, (4,))
        layers.check_halvings(halvings, height // 2, height)
        layers.check_bins(bins, height, halvings=1, copies=2)
        if depth < 1:
            raise ValueError(f"model.depth={depth}: give the layers of a stage, 1 or more")
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        self.has_neck = neck

        def stage(before: int, out: int, last_is_stacked: bool = False):
            return nnx.List(
                GlobalLocal(
                    out if index else before,
                    out,
                    strips=2**halvings,
                    stacked=last_is_stacked and index == depth - 1,
                    rngs=rngs,
                )
                for index in range(depth)
            )

        first, before_pool, after_pool, last = channels
        self.first = nnx.List(
            layers.Convolution(first if index else 1, first, (3, 3, 3), rngs=rngs) for index in range(depth)
        )
        self.shorten = TemporalConvolution(first, first, rngs=rngs)
        self.before_pool = stage(first, before_pool)
        self.after_pool = stage(before_pool, after_pool)
        self.last = stage(after_pool, last, last_is_stacked=True)
        self.mean = GeneralisedMean()
        if neck:
            self.neck = layers.NeckHead(sum(bins), last, features, num_classes, use_neck=False, rngs=rngs)
            return
        self.head = layers.PartLinear(sum(bins), last, features, rngs=rngs)
        self.norm = layers.BatchNorm(features, rngs=rngs)
        self.classifier = layers.PartLinear(sum(bins), features, num_classes, rngs=rngs)

    def __call__(self, silhouettes: Silhouettes, frame_mask: FrameMask) -> ModelOutput:
        """Embeddings [n, sum(bins), features] and logits [n, sum(bins), classes] of silhouettes.

        Padded frames are set to zero before every convolution, as beyond the end of a sequence on its own.
        """
        silhouettes, frame_mask = repeat_short_sequences(silhouettes, frame_mask)
        frames = layers.scale_silhouettes(silhouettes, self.height, self.dtype)
        for convolution in self.first:
            frames = layers.leaky_relu(convolution(layers.zero_padding(frames, frame_mask)))
        frames = layers.leaky_relu(self.shorten(frames))
        frame_mask = frame_mask[:, 2::3]
        for layer in self.before_pool:
            frames = layer(layers.zero_padding(frames, frame_mask))
        frames = layers.max_pool(frames)
        for layer in [*self.after_pool, *self.last]:
            frames = layer(layers.zero_padding(frames, frame_mask))
        maps = layers.max_over_frames(frames, frame_mask)[:, 0]
        pooled = self.mean(maps, self.bins)
        if self.has_neck:
            return self.neck(pooled)
        embeddings = self.norm(self.head(pooled))
        return ModelOutput(embeddings, self.classifier(embeddings))


def repeat_short_sequences(
    silhouettes: Silhouettes, frame_mask: FrameMask
) -> tuple[UInt8[Array, "n frames h w"], Bool[Array, "n frames"]]:
    """Repeat one frame to three and two frames to four, since the temporal convolution needs three.

    Returns at least 4 (padded) frames.
    """
    missing = max(0, 4 - frame_mask.shape[1])
    silhouettes = jnp.pad(silhouettes, [(0, 0), (0, missing), (0, 0), (0, 0)])
    frame_mask = jnp.pad(frame_mask, [(0, 0), (0, missing)])
    length = jnp.sum(frame_mask, axis=1, keepdims=True, dtype=jnp.int32)
    is_short = length < 3
    repeated = jnp.where(is_short, jnp.arange(4) % jnp.maximum(length, 1), jnp.arange(4))
    start = jnp.take_along_axis(silhouettes[:, :4], repeated[:, :, None, None], axis=1)
    frame_mask = jnp.arange(frame_mask.shape[1]) < jnp.where(is_short, length + 2, length)
    return jnp.concatenate([start, silhouettes[:, 4:]], axis=1), frame_mask
