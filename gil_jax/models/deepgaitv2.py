"""DeepGaitV2: a deep residual network of frames, 2-D, 3-D or pseudo-3-D (Fan et al., arXiv 2303.03301)."""

from flax import nnx

from gil_jax.models import layers, residual
from gil_jax.types import ModelOutput


class DeepGaitV2(nnx.Module):
    """Residual blocks, the maximum over the frames, horizontal pooling and a classifier behind a neck.

    mode: "2d", "3d" or "p3d", the blocks of stages 2 to 4 (see `ResidualBlock`); no mode changes the number of frames.
    channels: of the four stages. blocks: residual blocks of each stage. features: of an embedding. bins: strip counts
    of the horizontal pooling. use_neck: evaluate the embeddings behind the neck. height: of a silhouette in pixels.
    Raises ValueError that names the field that does not fit.
    """

    def __init__(
        self,
        *,
        mode: str = "p3d",
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
        if mode not in residual.MODES:
            raise ValueError(f"model.mode={mode!r}: choose one of {', '.join(residual.MODES)}")
        layers.check_classifier("deepgaitv2", num_classes)
        residual.check_blocks(channels, blocks)
        layers.check_bins(bins, height, halvings=2)
        self.bins, self.height, self.dtype = tuple(bins), height, layers.compute_dtype(dtype)
        self.backbone = residual.Backbone(channels, blocks, mode=mode, rngs=rngs)
        self.neck = layers.NeckHead(sum(bins), channels[-1], features, num_classes, use_neck=use_neck, rngs=rngs)

    def __call__(self, silhouettes: layers.Silhouettes, frame_mask: layers.FrameMask) -> ModelOutput:
        """Embeddings and logits of silhouettes."""
        frames = layers.scale_silhouettes(silhouettes, self.height, self.dtype)
        frames = self.backbone(frames, frame_mask)
        maps = layers.max_over_frames(frames, frame_mask)[:, 0]
        return self.neck(layers.horizontal_pooling(maps, self.bins))
