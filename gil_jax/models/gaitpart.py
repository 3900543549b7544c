"""GaitPart: focal convolutions and a temporal module for every part (Fan et al., CVPR 2020)."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gil_jax.models import layers
from gil_jax.types import ModelOutput


class PartTemporalConvolution(nnx.Module):
    """Convolution along the frames with separate kernels for the parts, [n, s, p, c] -> [n, s, p, out].

    Zero padding to the same length, no bias; each part's kernel of `size` taps is initialised xavier uniform.
    """

    def __init__(self, parts: int, channels: int, out: int, size: int, *, rngs: nnx.Rngs):
        bound = math.sqrt(6 / (size * (channels + out)))
        shape = (parts, size, channels, out)
        self.kernel = nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

    def __call__(self, parts: Float[Array, "n s p c"]) -> Float[Array, "n s p out"]:
        """Convolve every part with its own kernel."""
        kernel = self.kernel[...]
        windows = windows_of_frames(parts, kernel.shape[1], 0.0)
        return jnp.einsum("tnspc,ptcd->nspd", jnp.stack(windows), kernel)


class MicroMotion(nnx.Module):
    """Attention over the frames times pooled frames: one of the two windows of the temporal module.

    attention_size: taps of the second convolution (the first has 3). window: frames of the average and max pooling.
    """

    def __init__(self, parts: int, channels: int, *, attention_size: int, window: int, rngs: nnx.Rngs):
        self.squeeze = PartTemporalConvolution(parts, channels, channels // 4, 3, rngs=rngs)
        self.expand = PartTemporalConvolution(parts, channels // 4, channels, attention_size, rngs=rngs)
        self.window = window

    def __call__(self, parts: Float[Array, "n s p c"], frame_mask: layers.FrameMask) -> Float[Array, "n s p c"]:
        """Apply it to parts that are zero on padding frames."""
        squeezed = layers.zero_padding(layers.leaky_relu(self.squeeze(parts)), frame_mask)
        attention = jax.nn.sigmoid(self.expand(squeezed))
        mean = sum(windows_of_frames(parts, self.window, 0.0)) / self.window
        lowest = jnp.where(layers.over_frames(frame_mask, parts), parts, jnp.full((), -jnp.inf, parts.dtype))
        highest = jnp.stack(windows_of_frames(lowest, self.window, -jnp.inf)).max(axis=0)
        return attention * (mean + highest)


def windows_of_frames(parts: Float[Array, "n s p c"], size: int, fill: float) -> list[Float[Array, "n s p c"]]:
    """Shift the frames so that each meets its `size` neighbours, with `fill` beyond the ends."""
    half = size // 2
    padded = jnp.pad(parts, [(0, 0), (half, half), (0, 0), (0, 0)], constant_values=fill)
    return [padded[:, offset : offset + parts.shape[1]] for offset in range(size)]


class GaitPart(nnx.Module):
    """Frames convolved in strips, more of them at each stage, then motion windows of every part.

    channels: of the stages; the first two end in a pooling. halvings: a stage convolves 2^halvings strips apart.
    features: of an embedding. bins: strip counts of the horizontal pooling. height: of a silhouette in pixels.
    num_classes: of the classifier behind the embeddings (ours, `layers.bnneck_logits`: the published network has none,
    a cross entropy needs one); 0: no classifier, and the published network. dtype: of the convolutions.
    Raises ValueError that names the field that does not fit.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...] = (32, 64, 128),
        halvings: tuple[int, ...] = (0, 2, 3),
        features: int = 128,
        bins: tuple[int, ...] = (16,),
        height: int = 64,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        layers.check_optional_classifier(num_classes)
        layers.check_channels(channels, (3, 4))
        layers.check_bins(bins, height, halvings=2)
        if channels[-1] % 4:
            raise ValueError(
                f"model.channels={tuple(channels)}: the last is squeezed to a quarter; choose a multiple of 4"
            )
        if len(halvings) != len(channels):
            raise ValueError(
                f"model.halvings={tuple(halvings)}: give one number for each of the {len(channels)} stages"
            )
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        self.stages = nnx.List()
        for index, (before, out) in enumerate(zip((1, *channels), channels, strict=False)):
            layers.check_halvings(halvings[index], height >> min(index, 2), height)
            block = layers.Block(before, out, first_size=3 if index else 5, strips=2 ** halvings[index], rngs=rngs)
            self.stages.append(block)
        parts = sum(bins)
        self.short = MicroMotion(parts, channels[-1], attention_size=1, window=3, rngs=rngs)
        self.long = MicroMotion(parts, channels[-1], attention_size=3, window=5, rngs=rngs)
        self.head = layers.PartLinear(parts, channels[-1], features, rngs=rngs)
        self.norm, self.classifier = layers.bnneck(parts, features, num_classes, rngs=rngs)

    def __call__(self, silhouettes: layers.Silhouettes, frame_mask: layers.FrameMask) -> ModelOutput:
        """Return embeddings float32 [n, sum(bins), features]; with classes, logits [n, sum(bins), num_classes]."""
        frames = layers.scale_silhouettes(silhouettes, self.height, self.dtype)
        for index, stage in enumerate(self.stages):
            frames = stage(frames)
            if index < 2:
                frames = layers.max_pool(frames)
        n, s = frame_mask.shape
        parts = layers.horizontal_pooling(frames.reshape(n * s, *frames.shape[2:]), self.bins)
        parts = layers.zero_padding(parts.reshape(n, s, *parts.shape[1:]), frame_mask)
        motion = self.short(parts, frame_mask) + self.long(parts, frame_mask)
        embeddings = self.head(layers.max_over_frames(motion, frame_mask)[:, 0])
        return ModelOutput(embeddings, layers.bnneck_logits(embeddings, self.norm, self.classifier))
