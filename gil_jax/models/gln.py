"""GLN: lateral connections between silhouette and set features (Hou, Cao, Liu, Huang, ECCV 2020).

Phase 1 trains the lateral network; phase 2 starts from it and adds the compact block.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from gil_jax.models import layers
from gil_jax.types import ModelOutput


class CompactBlock(nnx.Module):
    """Logits from all parts of a sequence, reduced to one short vector: [n, p, d] -> float32 [n, 1, k].

    The biases of both BatchNorms are not trained: 0, or the value of a checkpoint.
    """

    def __init__(self, inputs: int, features: int, num_classes: int, *, dropout: float, rngs: nnx.Rngs):
        initialise = nnx.initializers.xavier_uniform()
        self.encoder_norm = layers.BatchNorm(inputs, train_bias=False, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.reduce = nnx.Linear(inputs, features, use_bias=False, kernel_init=initialise, rngs=rngs)
        self.reduced_norm = layers.BatchNorm(features, train_bias=False, rngs=rngs)
        self.classifier = nnx.Linear(features, num_classes, use_bias=False, kernel_init=initialise, rngs=rngs)

    def __call__(self, embeddings: Float[Array, "n p d"]) -> Float[Array, "n 1 k"]:
        """Return the logits."""
        flat = self.encoder_norm(embeddings.reshape(embeddings.shape[0], -1))
        reduced = self.reduce(nnx.relu(self.dropout(flat)))
        return self.classifier(self.reduced_norm(reduced))[:, None]


class GLN(nnx.Module):
    """Three stages of frames and two of the set, joined top-down as in a feature pyramid.

    channels: of the three stages. lateral_channels: of the joined maps. features: of an embedding. bins: strip counts
    of the horizontal pooling of each map. height: of a silhouette in pixels. compact: phase 2, with the compact block
    of compact_features, the dropout share before it and logits of num_classes. Phase 1 with num_classes > 0 has a
    classifier behind the embeddings (ours, `layers.bnneck_logits`: the published phase 1 has none, a cross entropy
    needs one). dtype: of the convolutions. Raises ValueError that names the field that does not fit.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...] = (32, 64, 128),
        lateral_channels: int = 256,
        features: int = 256,
        bins: tuple[int, ...] = (16, 8, 4, 2, 1),
        height: int = 128,
        compact: bool = False,
        compact_features: int = 256,
        dropout: float = 0.9,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if compact:
            layers.check_classifier("gln with compact=True", num_classes)
        else:
            layers.check_optional_classifier(num_classes)
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout={dropout}: give a share from 0 to below 1")
        layers.check_channels(channels, (3,))
        layers.check_bins(bins, height, halvings=2)
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        first, second, third = channels

        def lateral(channels: int) -> layers.Convolution:
            return layers.Convolution(2 * channels, lateral_channels, (1, 1), rngs=rngs)

        def smooth() -> layers.Convolution:
            return layers.Convolution(lateral_channels, lateral_channels, (3, 3), rngs=rngs)

        self.frame0 = layers.Block(1, first, first_size=5, rngs=rngs)
        self.frame1 = layers.Block(first, second, rngs=rngs)
        self.frame2 = layers.Block(second, third, rngs=rngs)
        self.set1 = layers.Block(first, second, rngs=rngs)
        self.set2 = layers.Block(second, third, rngs=rngs)
        self.lateral0, self.lateral1, self.lateral2 = lateral(first), lateral(second), lateral(third)
        self.smooth0, self.smooth1, self.smooth2 = smooth(), smooth(), smooth()
        parts = 3 * sum(bins)
        self.head = layers.PartLinear(parts, lateral_channels, features, rngs=rngs)
        if compact:
            self.compact = CompactBlock(parts * features, compact_features, num_classes, dropout=dropout, rngs=rngs)
            self.norm = self.classifier = None
        else:
            self.compact = None
            self.norm, self.classifier = layers.bnneck(parts, features, num_classes, rngs=rngs)

    def __call__(self, silhouettes: layers.Silhouettes, frame_mask: layers.FrameMask) -> ModelOutput:
        """Return embeddings float32 [n, 3 sum(bins), features] and, with classes, logits.

        Logits of phase 1: [n, 3 sum(bins), num_classes], of phase 2: [n, 1, num_classes].
        """

        def set_max(frames: Array) -> Array:
            return layers.max_over_frames(frames, frame_mask)

        frames0 = self.frame0(layers.scale_silhouettes(silhouettes, self.height, self.dtype))
        pooled0 = layers.max_pool(frames0)
        frames1 = self.frame1(pooled0)
        frames2 = self.frame2(layers.max_pool(frames1))
        map0, map1, map2 = set_max(frames0), set_max(frames1), set_max(frames2)
        set1 = self.set1(set_max(pooled0)) + map1
        set2 = self.set2(layers.max_pool(set1)) + map2

        level2 = self.lateral2(jnp.concatenate([map2, set2], axis=-1))
        level1 = doubled(level2) + self.lateral1(jnp.concatenate([map1, set1], axis=-1))
        level0 = doubled(level1) + self.lateral0(jnp.concatenate([map0, map0], axis=-1))
        levels = [self.smooth0(level0), self.smooth1(level1), self.smooth2(level2)]
        parts = [layers.horizontal_pooling(level[:, 0], self.bins) for level in levels]
        embeddings = self.head(jnp.concatenate(parts, axis=1))
        if self.compact is not None:
            return ModelOutput(embeddings, self.compact(embeddings))
        return ModelOutput(embeddings, layers.bnneck_logits(embeddings, self.norm, self.classifier))


def doubled(maps: Float[Array, "n 1 h w c"]) -> Float[Array, "n 1 2*h 2*w c"]:
    """Upsample by 2 to the nearest pixel."""
    return maps.repeat(2, axis=2).repeat(2, axis=3)
