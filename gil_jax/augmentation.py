"""Augmentation of training sequences, on the device: every sequence gets draws of its own, its frames share them.

augment = make_augmentation(config.data.augment, height=64)
silhouettes = augment(key, silhouettes, frame_mask)

Each kind is a dataclass of its fields with two pure functions: draw(key, height, width) -> draws, and
apply(frames, draws), which is tested against OpenGait's numbers for given draws. Pixels are float32 from 0 to 255 in
between and rounded at the end. s frames, h rows, w columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from gil_jax.ops.bilinear import pixel_grid, sample_bilinear

Frames = Float[Array, "s h w"]
Draws = dict[str, Array]  # scalars by name
MOST_SHEAR = 10  # pixels of 64: a corner of `Perspective` moves by less
ROWS = 64  # that positions and distances in the fields refer to; scaled for other heights


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """A kind of augmentation. probability: that it is applied to a sequence."""

    probability: float = 0.5

    def check(self) -> str | None:
        """Describe what is wrong with the fields."""
        return None

    def draw(self, key: Key[Array, ""], height: int, width: int) -> Draws:
        """Draw what `apply` needs for one sequence; by default nothing."""
        return {}

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Change all frames of a sequence."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Erase(Augmentation):
    """One rectangle set to 0: Random Erasing (Zhong et al., AAAI 2020), by default with the numbers of the GIL paper.

    area: limits of its share of the picture. ratio: limits of its height over its width.
    """

    area: tuple[float, float] = (0.02, 0.05)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def check(self) -> str | None:
        """Describe what is wrong with the fields."""
        for name, (low, high) in {"area": self.area, "ratio": self.ratio}.items():
            if not 0 < low <= high:
                return f"{name}=({low}, {high}): give two numbers above 0, the smaller one first"
        if self.area[1] * self.ratio[1] >= 16 / 11 or self.area[1] / self.ratio[0] >= 11 / 16:
            return f"area={self.area} with ratio={self.ratio}: the rectangle may be larger than the picture; lower area"
        return None

    def draw(self, key: Key[Array, ""], height: int, width: int) -> Draws:
        """Draw area, ratio, top and left, each uniformly."""
        keys = jax.random.split(key, 4)
        area, ratio = _uniform(keys[0], *self.area), _uniform(keys[1], *self.ratio)
        rows, columns = self._sides(area, ratio, height, width)
        return {
            "area": area,
            "ratio": ratio,
            "top": jax.random.randint(keys[2], (), 0, height - rows + 1),
            "left": jax.random.randint(keys[3], (), 0, width - columns + 1),
        }

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Erase the rectangle in all frames."""
        _, height, width = frames.shape
        rows, columns = self._sides(draws["area"], draws["ratio"], height, width)
        y, x = jnp.arange(height)[:, None] - draws["top"], jnp.arange(width) - draws["left"]
        return jnp.where((y >= 0) & (y < rows) & (x >= 0) & (x < columns), 0.0, frames)

    @staticmethod
    def _sides(area: Array, ratio: Array, height: int, width: int) -> tuple[Int[Array, ""], Int[Array, ""]]:
        pixels = jnp.asarray(area, jnp.float32) * (height * width)
        rows, columns = jnp.sqrt(pixels * ratio), jnp.sqrt(pixels / ratio)
        return jnp.round(rows).astype(jnp.int32), jnp.round(columns).astype(jnp.int32)


@dataclass(frozen=True, kw_only=True)
class Dilate(Augmentation):
    """Thicker clothes: the maximum with the four neighbours (OpenCV's 3x3 ellipse) within a band of rows.

    rows: first row of the band and the one behind it, of 64. The band is dilated alone. Numbers of the GIL paper.
    """

    rows: tuple[int, int] = (8, 56)

    def check(self) -> str | None:
        """Describe what is wrong with the fields."""
        first, end = self.rows
        return None if 0 <= first < end <= ROWS else f"rows=({first}, {end}): give two rows from 0 to 64, in order"

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Dilate the band in all frames."""
        height = frames.shape[1]
        first, end = (row * height // ROWS for row in self.rows)
        band = jnp.pad(frames[:, first:end], [(0, 0), (1, 1), (1, 1)])
        inner = band[:, 1:-1, 1:-1]
        neighbours = (band[:, :-2, 1:-1], band[:, 2:, 1:-1], band[:, 1:-1, :-2], band[:, 1:-1, 2:])
        for neighbour in neighbours:
            inner = jnp.maximum(inner, neighbour)
        return frames.at[:, first:end].set(inner)


@dataclass(frozen=True, kw_only=True)
class Flip(Augmentation):
    """Mirrored left to right."""

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Mirror all frames."""
        return frames[:, :, ::-1]


@dataclass(frozen=True, kw_only=True)
class Rotate(Augmentation):
    """Turned by up to `degrees` to either side, bilinear, zeros outside.

    As in OpenGait, with OpenCV's rounding, about x = h // 2, y = w // 2 (32, 22 of 64x44), which is not the centre.
    """

    probability: float = 0.2
    degrees: float = 10.0

    def check(self) -> str | None:
        """Describe what is wrong with the fields."""
        return None if 0 < self.degrees <= 180 else f"degrees={self.degrees}: give a number above 0, at most 180"

    def draw(self, key: Key[Array, ""], height: int, width: int) -> Draws:
        """Draw the angle in degrees, counter-clockwise as seen."""
        return {"degrees": _uniform(key, -self.degrees, self.degrees)}

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Turn all frames."""
        _, height, width = frames.shape
        centre_x, centre_y = height // 2, width // 2
        angle = jnp.radians(jnp.asarray(draws["degrees"], jnp.float32))
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        columns, rows = pixel_grid(height, width)

        def to_32nds(of_column: Array, of_row: Array) -> Array:
            """Round a coordinate as cv2.warpAffine does: its two terms to 1/1024, their sum to 1/32."""
            return jnp.floor((jnp.round(1024 * of_column) + jnp.round(1024 * of_row) + 16) / 32) / 32

        x = to_32nds(cos * columns, (1 - cos) * centre_x - sin * (rows - centre_y))
        y = to_32nds(sin * columns, (1 - cos) * centre_y - sin * centre_x + cos * rows)
        return sample_bilinear(frames, x, y)


@dataclass(frozen=True, kw_only=True)
class Crop(Augmentation):
    """Padded by `pixels` of 64 on all sides, then cropped to the old size anywhere: shifted, zeros outside."""

    pixels: int = 4

    def check(self) -> str | None:
        """Describe what is wrong with the fields."""
        return None if 0 < self.pixels <= 20 else f"pixels={self.pixels}: give a number from 1 to 20"

    def draw(self, key: Key[Array, ""], height: int, width: int) -> Draws:
        """Draw the first row and column of the crop in the padded picture."""
        most = self.pixels * height // ROWS
        top, left = jax.random.randint(key, (2,), 0, 2 * most + 1)
        return {"top": top, "left": left}

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Pad and crop all frames."""
        s, height, width = frames.shape
        most = self.pixels * height // ROWS
        padded = jnp.pad(frames, [(0, 0), (most, most), (most, most)])
        return jax.lax.dynamic_slice(padded, (0, draws["top"], draws["left"]), (s, height, width))


@dataclass(frozen=True, kw_only=True)
class Perspective(Augmentation):
    """The quadrilateral between four shifted corners stretched to the picture, bilinear, zeros outside.

    As in OpenGait, of pictures as wide as high: the columns that were cut off are padded with zeros, and cut off again.
    """

    probability: float = 0.2

    def draw(self, key: Key[Array, ""], height: int, width: int) -> Draws:
        """Draw the columns of the corners top left, top right, bottom left, bottom right, each uniform over c."""
        most = MOST_SHEAR * height // ROWS
        left_ends = jnp.array([0, height - most, 0, height - most], jnp.int32)
        return {"corners": left_ends + jax.random.randint(key, (4,), 0, most)}

    def apply(self, frames: Frames, draws: Draws) -> Frames:
        """Stretch all frames [s, h, h], or [s, h, w] with the sides cut off."""
        _, height, width = frames.shape
        if width < height:
            side = (height - width) // 2
            return self.apply(jnp.pad(frames, [(0, 0), (0, 0), (side, side)]), draws)[:, :, side : side + width]
        # Where the pixels of the result come from: Heckbert, Fundamentals of Texture Mapping and Image Warping, 1989,
        # for corners with the rows 0 and h, so that only columns and the divisor are projective.
        top_left, top_right, bottom_left, bottom_right = jnp.asarray(draws["corners"], jnp.float32)
        h = (top_right - top_left) / (bottom_right - bottom_left) - 1  # of the divisor, along y
        columns, rows = pixel_grid(height, width)
        u, v = columns / width, rows / height
        divisor = 1 + h * v
        x = (top_left + (top_right - top_left) * u + (bottom_left * (1 + h) - top_left) * v) / divisor
        y = (1 + h) * height * v / divisor
        return jnp.round(sample_bilinear(frames, x, jnp.broadcast_to(y, x.shape)))


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "erase": Erase,
    "dilate": Dilate,
    "flip": Flip,
    "rotate": Rotate,
    "crop": Crop,
    "perspective": Perspective,
}
Augment = Callable[..., Array]


def make_augmentation(config: Mapping[str, Any] | ConfigDict, height: int) -> Augment | None:
    """Make augment(key, silhouettes uint8 [n, s, h, w], frame_mask bool [n, s]) -> uint8 [n, s, h, w].

    config: {"order": names of AUGMENTATIONS, one after the other, name: fields, ...}; empty: None. Every sequence draws
    apart whether and how each of them is applied. Padding frames come back empty.
    Raises ValueError that names the field that does not fit.
    """
    if not config:
        return None
    chosen = parse(config)

    def augment_sequence(key: Array, silhouettes: Array, frame_mask: Array) -> Array:
        frames = silhouettes.astype(jnp.float32)
        for index, kind in enumerate(chosen):
            coin, draws_key = jax.random.split(jax.random.fold_in(key, index))
            draws = kind.draw(draws_key, *frames.shape[1:])
            is_applied = jax.random.uniform(coin) < kind.probability
            frames = jnp.where(is_applied, kind.apply(frames, draws), frames)
        return jnp.where(frame_mask[:, None, None], jnp.round(frames), 0.0).astype(jnp.uint8)

    def augment(key: Array, silhouettes: Array, frame_mask: Array) -> Array:
        if silhouettes.shape[2] != height:
            raise ValueError(f"silhouettes of height {silhouettes.shape[2]}, config.data.height={height}")
        return jax.vmap(augment_sequence)(jax.random.split(key, len(silhouettes)), silhouettes, frame_mask)

    return augment


def parse(config: Mapping[str, Any] | ConfigDict) -> list[Augmentation]:
    """Build the augmentations in their order; raises ValueError that names the field that does not fit."""
    values = {name: value for name, value in config.items() if name != "order"}
    order = tuple(config.get("order", ()))
    for name in (*order, *values):
        if name not in AUGMENTATIONS:
            raise ValueError(
                f"config.data.augment.{name}: no such augmentation: choose among {', '.join(AUGMENTATIONS)}"
            )
    if missing := [name for name in values if name not in order]:
        raise ValueError(
            f"config.data.augment.order={order} leaves {missing[0]} out: name it there, or drop its fields"
        )
    if len(set(order)) < len(order):
        raise ValueError(f"config.data.augment.order={order}: name each once")
    return [_parse_one(name, values.get(name, {})) for name in order]


def _parse_one(name: str, values: Mapping[str, Any] | ConfigDict) -> Augmentation:
    kind: Any = AUGMENTATIONS[name]
    built: dict[str, Any] = {}
    known: dict[str, Any] = {field.name: field.default for field in fields(kind)}
    for field, value in values.items():
        where, numbers = f"config.data.augment.{name}.{field}", np.asarray(value)
        if field not in known:
            raise ValueError(f"{where}: no such field: choose among {', '.join(known)}")
        if numbers.shape != np.shape(known[field]) or numbers.dtype.kind not in "if" or not np.isfinite(numbers).all():
            raise ValueError(f"{where}={value!r}: give something like {known[field]!r}")
        like = np.asarray(known[field])
        built[field] = tuple(numbers.astype(like.dtype).tolist()) if like.ndim else numbers.astype(like.dtype).item()
    made = kind(**built)
    wrong = made.check()
    if not 0 <= made.probability <= 1:
        wrong = f"probability={made.probability}: give a number from 0 to 1"
    if wrong:
        raise ValueError(f"config.data.augment.{name}.{wrong}")
    return made


def _uniform(key: Key[Array, ""], low: float, high: float) -> Float[Array, ""]:
    return jax.random.uniform(key, (), jnp.float32, low, high)
