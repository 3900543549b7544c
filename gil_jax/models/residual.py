"""Residual blocks of frames, which GaitBase and DeepGaitV2 share.

Every convolution has no bias and is followed by its own BatchNorm over all real frames (He et al., CVPR 2016).
"""

import jax
from flax import nnx
from jaxtyping import Array, Float

from gil_jax.models import layers
from gil_jax.models.layers import FrameMask, Frames

KERNELS = {"2d": (3, 3), "3d": (3, 3, 3), "p3d": (3, 3)}  # mode -> size of the first and second convolution of a block
MODES = tuple(KERNELS)


class NormedConvolution(nnx.Module):
    """A convolution and its BatchNorm, [n, s, h, w, c] -> [n, s, h / stride, w / stride, out]."""

    def __init__(self, channels: int, out: int, kernel_size: tuple, *, stride: int = 1, rngs: nnx.Rngs):
        self.convolution = layers.Convolution(channels, out, kernel_size, stride=stride, rngs=rngs)
        self.norm = layers.BatchNorm(out, rngs=rngs)
        self.sees_neighbours = len(kernel_size) == 3 and kernel_size[0] > 1

    def __call__(self, frames: Frames, frame_mask: FrameMask) -> Float[Array, "n s rows columns out"]:
        """Convolve and normalise; a convolution over time sees zeros beyond the end of every sequence."""
        if self.sees_neighbours:
            frames = layers.zero_padding(frames, frame_mask)
        return self.norm(self.convolution(frames), frame_mask)


class ResidualBlock(nnx.Module):
    """Two convolutions and a shortcut, [n, s, h, w, c] -> [n, s, h / stride, w / stride, out].

    mode: "2d" works on every frame alone, "3d" also along the frames; "p3d" works on every frame alone and adds a
    convolution along the frames, itself a residual, between the two. The shortcut is the identity, or a projection
    where the stride or the width changes.
    """

    def __init__(self, channels: int, out: int, *, mode: str = "2d", stride: int = 1, rngs: nnx.Rngs):
        self.first = NormedConvolution(channels, out, KERNELS[mode], stride=stride, rngs=rngs)
        self.temporal = NormedConvolution(out, out, (3, 1, 1), rngs=rngs) if mode == "p3d" else None
        self.second = NormedConvolution(out, out, KERNELS[mode], rngs=rngs)
        size, changes = (1, 1) if mode == "2d" else (1, 1, 1), stride > 1 or channels != out
        self.projection = NormedConvolution(channels, out, size, stride=stride, rngs=rngs) if changes else None

    def __call__(self, frames: Frames, frame_mask: FrameMask) -> Float[Array, "n s rows columns out"]:
        """Add the convolved frames to the shortcut."""
        hidden = jax.nn.relu(self.first(frames, frame_mask))
        if self.temporal is not None:
            hidden = jax.nn.relu(hidden + self.temporal(hidden, frame_mask))
        shortcut = frames if self.projection is None else self.projection(frames, frame_mask)
        return jax.nn.relu(self.second(hidden, frame_mask) + shortcut)


class Backbone(nnx.Module):
    """A first convolution and four stages of residual blocks; stages 2 and 3 halve the height and the width.

    channels, blocks: widths and numbers of blocks of the stages. mode: of the blocks; stage 1 is always "2d".
    """

    def __init__(self, channels: tuple, blocks: tuple, *, mode: str = "2d", rngs: nnx.Rngs):
        self.first = NormedConvolution(1, channels[0], (3, 3), rngs=rngs)
        self.stages = nnx.List()
        before = channels[0]
        for out, count, stride, stage_mode in zip(
            channels, blocks, (1, 2, 2, 1), ("2d", mode, mode, mode), strict=True
        ):
            stage = nnx.List()
            for index in range(count):
                block = ResidualBlock(
                    out if index else before, out, mode=stage_mode, stride=1 if index else stride, rngs=rngs
                )
                stage.append(block)
            self.stages.append(stage)
            before = out

    def __call__(self, frames: Frames, frame_mask: FrameMask) -> Float[Array, "n s rows columns out"]:
        """Maps of every frame."""
        frames = jax.nn.relu(self.first(frames, frame_mask))
        for stage in self.stages:
            for block in stage:
                frames = block(frames, frame_mask)
        return frames


def check_blocks(channels: tuple, blocks: tuple) -> None:
    """Raise ValueError unless there are four widths and four numbers of blocks."""
    layers.check_channels(channels, (4,))
    if len(blocks) != 4 or min(blocks) < 1:
        raise ValueError(f"model.blocks={tuple(blocks)}: give 4 positive numbers of blocks, one for each stage")
