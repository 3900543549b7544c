"""Baseline: per-frame convolutions, set pooling, horizontal pooling and a BNNeck classifier.

Fan et al., CVPR 2023, arXiv 2211.06597 (OpenGait); the neck by Luo et al., CVPRW 2019.
"""

from flax import nnx

from gil_jax.models import layers
from gil_jax.types import ModelOutput


class Baseline(nnx.Module):
    """Embeddings from the part-linear layer; logits are cosines between normalised embeddings and classes.

    channels: of the stages; the first two end in a pooling. features: of an embedding. bins: strip counts of the
    horizontal pooling. height: of a silhouette in pixels. num_classes: of the classifier, the training subjects.
    dtype: of the convolutions. Raises ValueError that names the field that does not fit.
    """

    def __init__(
        self,
        *,
        channels: tuple[int, ...] = (64, 128, 256),
        features: int = 256,
        bins: tuple[int, ...] = (16, 8, 4, 2, 1),
        height: int = 64,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        layers.check_classifier("baseline", num_classes)
        layers.check_channels(channels, (3, 4))
        layers.check_bins(bins, height, halvings=2)
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        self.stages = nnx.List()
        for before, out in zip((1, *channels), channels, strict=False):
            self.stages.append(layers.Block(before, out, first_size=5 if before == 1 else 3, rngs=rngs))
        parts = sum(bins)
        self.head = layers.PartLinear(parts, channels[-1], features, rngs=rngs)
        self.norm, self.classifier = layers.bnneck(parts, features, num_classes, rngs=rngs)

    def __call__(self, silhouettes: layers.Silhouettes, frame_mask: layers.FrameMask) -> ModelOutput:
        """Return embeddings float32 [n, sum(bins), features] and logits [n, sum(bins), num_classes]."""
        frames = layers.scale_silhouettes(silhouettes, self.height, self.dtype)
        for index, stage in enumerate(self.stages):
            frames = stage(frames)
            if index < 2:
                frames = layers.max_pool(frames)
        maps = layers.max_over_frames(frames, frame_mask)[:, 0]
        embeddings = self.head(layers.horizontal_pooling(maps, self.bins))
        return ModelOutput(embeddings, layers.bnneck_logits(embeddings, self.norm, self.classifier))
