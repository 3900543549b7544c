"""The picture docs/images/augmentation.png: every augmentation on one synthetic walk, and all of them together.

python -m docs.augmentation_picture
"""

from pathlib import Path

import jax
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

from data_prep.align import align_silhouette
from data_prep.synthetic import SyntheticConfig, render_sequence
from gil_jax.augmentation import AUGMENTATIONS, make_augmentation
from gil_jax.data.transforms import cut_columns

IMAGE = Path(__file__).parent / "images" / "augmentation.png"
FRAMES = (0, 5, 10)  # of the walk
DRAWS = 3


def walk() -> np.ndarray:
    """Frames of one aligned sequence: uint8 [s, 64, 44]."""
    frames = render_sequence(SyntheticConfig(subjects=1), 1, "nm-01", "090")
    aligned = [align_silhouette(frames[i], 64) for i in FRAMES]
    return np.stack([cut_columns(frame) for frame in aligned if frame is not None])


def main() -> None:
    """Draw a row for each augmentation: the same walk with several draws, three frames of each."""
    silhouettes = np.tile(walk(), (DRAWS, 1, 1, 1))
    order = tuple(AUGMENTATIONS)
    rows = {"as it is": {}}
    rows |= {name: {"order": (name,), name: {"probability": 1.0}} for name in order}
    rows["all, each at 0.5"] = {"order": order} | {name: {"probability": 0.5} for name in order}
    figure, panels = pyplot.subplots(len(rows), 1, figsize=(6, 1.15 * len(rows)), layout="constrained")
    for row, (name, config) in enumerate(rows.items()):
        augment = make_augmentation(config, 64)
        shown = silhouettes
        if augment is not None:
            shown = np.asarray(augment(jax.random.key(row), silhouettes, np.ones(shown.shape[:2], bool)))
        gap = np.full((64, 12), 255, np.uint8)
        strip = [
            np.hstack([*(np.pad(f, ((0, 0), (1, 1)), constant_values=90) for f in frames), gap]) for frames in shown
        ]
        panels[row].imshow(np.hstack(strip)[:, : -gap.shape[1]], cmap="gray", vmin=0, vmax=255)
        panels[row].set(xticks=[], yticks=[])
        panels[row].set_ylabel(name, rotation=0, ha="right", va="center")
        panels[row].spines[:].set_visible(False)
    figure.savefig(IMAGE, dpi=110)


if __name__ == "__main__":
    main()
