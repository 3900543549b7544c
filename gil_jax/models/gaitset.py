"""GaitSet: a sequence as a set of silhouettes (Chao, He, Zhang, Feng, AAAI 2019, arXiv 1811.06186)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from gil_jax.models import layers
from gil_jax.types import ModelOutput


class GaitSet(nnx.Module):
    """Per-frame features and a global branch, each pooled over the set and over horizontal strips.

    channels: of the three blocks. features: of an embedding. bins: strip counts of the horizontal pooling. height: of
    a silhouette in pixels. num_classes: of the classifier behind the embeddings (ours, `layers.bnneck_logits`: the
    published network has none, a cross entropy needs one); 0: no classifier, the published network. dtype: of the
    convolutions. Raises ValueError that names the field that does not fit.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...] = (32, 64, 128),
        features: int = 256,
        bins: tuple[int, ...] = (16, 8, 4, 2, 1),
        height: int = 64,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        layers.check_optional_classifier(num_classes)
        layers.check_channels(channels, (3,))
        layers.check_bins(bins, height, halvings=2)
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        first, second, third = channels
        self.frame1 = layers.Block(1, first, first_size=5, rngs=rngs)
        self.frame2 = layers.Block(first, second, rngs=rngs)
        self.frame3 = layers.Block(second, third, rngs=rngs)
        self.global2 = layers.Block(first, second, rngs=rngs)
        self.global3 = layers.Block(second, third, rngs=rngs)
        parts = 2 * sum(bins)
        self.head = layers.PartLinear(parts, third, features, rngs=rngs)
        self.norm, self.classifier = layers.bnneck(parts, features, num_classes, rngs=rngs)

    def __call__(self, silhouettes: layers.Silhouettes, frame_mask: layers.FrameMask) -> ModelOutput:
        """Return embeddings float32 [n, 2 sum(bins), features]; with classes, logits [n, 2 sum(bins), num_classes]."""

        def set_max(frames: Array) -> Array:
            return layers.max_over_frames(frames, frame_mask)

        frames = layers.scale_silhouettes(silhouettes, self.height, self.dtype)
        frames = layers.max_pool(self.frame1(frames))
        branch = layers.max_pool(self.global2(set_max(frames)))
        frames = layers.max_pool(self.frame2(frames))
        branch = self.global3(branch + set_max(frames))
        set_map = set_max(self.frame3(frames))
        branch = branch + set_map
        pooled = [layers.horizontal_pooling(maps[:, 0], self.bins) for maps in (set_map, branch)]
        embeddings = self.head(jnp.concatenate(pooled, axis=1))
        return ModelOutput(embeddings, layers.bnneck_logits(embeddings, self.norm, self.classifier))
