"""GaitBase: a small ResNet of every frame (Fan et al., OpenGait, CVPR 2023, arXiv 2211.06597)."""

from flax import nnx

from gil_jax.models import layers, residual
from gil_jax.types import ModelOutput


class GaitBase(nnx.Module):
    """Residual blocks of every frame, the maximum over the frames, horizontal pooling and a classifier behind a neck.

    channels: of the four stages. blocks: residual blocks of each stage. features: of an embedding. bins: strip counts
    of the horizontal pooling. use_neck: evaluate the embeddings behind the neck. height: of a silhouette in pixels.
    Raises ValueError that names the field that does not fit.
    """

    def __init__(
        self,
        *,
        channels: tuple = (64, 128, 256, 512),
        blocks: tuple = (1, 1, 1, 1),
        features: int = 256,
        bins: tuple = (16,),
        use_neck: bool = False,
        height: int = 64,
        num_classes: int = 0,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        layers.check_classifier("gaitbase", num_classes)
        residual.check_blocks(channels, blocks)
        layers.check_bins(bins, height, halvings=2)
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        self.backbone = residual.Backbone(channels, blocks, rngs=rngs)
        self.neck = layers.NeckHead(sum(bins), channels[-1], features, num_classes, use_neck=use_neck, rngs=rngs)

    def __call__(self, silhouettes: layers.Silhouettes, frame_mask: layers.FrameMask) -> ModelOutput:
        """Embeddings and logits of silhouettes."""
        frames = layers.scale_silhouettes(silhouettes, self.height, self.dtype)
        frames = self.backbone(frames, frame_mask)
        maps = layers.max_over_frames(frames, frame_mask)[:, 0]
        return self.neck(layers.horizontal_pooling(maps, self.bins))
