"""The paper's Figures 1, 4 and 5 redone on synthetic walkers, from runs that benchmarks/recipes.py kept.

    python -m benchmarks.recipes --folder=<dir>
    python -m docs.study_pictures --folder=<dir> [--network gaitgl] [--seed 0]

Writes docs/images/study_embeddings.png, study_triplets.png and study_similarity.png, each for triplet_ce and l_s.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.manifold import TSNE

matplotlib.use("Agg")
from matplotlib import pyplot

from benchmarks.recipes import SEQUENCES, Run

IMAGES = Path(__file__).parent / "images"
RECIPES = ("triplet_ce", "l_s")


def embeddings(runs: dict[str, tuple[dict, dict]], path: Path) -> None:
    """Figure 1: the test people's sequences, all parts of one in a row, in two dimensions by t-SNE."""
    figure, panels = pyplot.subplots(1, len(runs), figsize=(5 * len(runs), 5), layout="constrained")
    for (recipe, (result, arrays)), axes in zip(runs.items(), panels, strict=True):
        rows = arrays["embeddings"].astype(np.float32).reshape(len(arrays["subjects"]), -1)
        points = TSNE(perplexity=20, init="pca", random_state=0).fit_transform(rows)
        for subject in np.unique(arrays["subjects"]):
            axes.scatter(*points[arrays["subjects"] == subject].T, s=5, label=subject)
        rates = " / ".join(f"{rate:.1f}" for rate in result["rank1"].values())
        axes.set(title=f"{recipe}, rank-1 {rates}", xticks=[], yticks=[])
    figure.savefig(path, dpi=100)


def triplets(runs: dict[str, tuple[dict, dict]], path: Path) -> None:
    """Figure 4: triplets of a batch whose loss is not zero, mean over the parts, over the steps."""
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for recipe, (result, _) in runs.items():
        history = [(line["step"], line["s_triplet/nonzero_share"]) for line in result["history"]]
        steps, shares = zip(*history, strict=True)
        axes.plot(steps, 100 * np.array(shares), label=recipe)
    axes.set(xlabel="step", ylabel="non-zero triplets (%)", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


def similarity(runs: dict[str, tuple[dict, dict]], path: Path) -> None:
    """Figure 5: cosines of the sequences of one training batch, mean over the parts, early, midway and late."""
    titles = ("early", "midway", "end")
    figure, panels = pyplot.subplots(len(runs), 3, figsize=(10, 3 * len(runs)), layout="constrained")
    for (recipe, (result, arrays)), row in zip(runs.items(), panels, strict=True):
        for matrix, step, title, axes in zip(arrays["similarity"], result["picture_steps"], titles, row, strict=True):
            others = matrix[~np.eye(len(matrix), dtype=bool)]  # all near 1: the colours span their own range
            shown = axes.imshow(matrix, cmap="viridis", vmin=others.min(), vmax=others.max())
            for border in np.arange(SEQUENCES, len(matrix), SEQUENCES) - 0.5:
                axes.axhline(border, color="white", linewidth=0.4)
                axes.axvline(border, color="white", linewidth=0.4)
            axes.set(title=f"{recipe}, {title} (step {step})", xticks=[], yticks=[])
            figure.colorbar(shown, ax=axes, shrink=0.8, format="%.3f")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Read both runs and draw the three pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of benchmarks/recipes.py")
    parser.add_argument("--network", default="gaitgl")
    parser.add_argument("--recipes", nargs=2, default=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    runs = {}
    for recipe in chosen.recipes:
        path = Run(chosen.network, recipe, chosen.seed).path(chosen.folder)
        with np.load(path.with_suffix(".npz")) as arrays:
            runs[recipe] = json.loads(path.read_text(encoding="utf-8")), dict(arrays)
    embeddings(runs, IMAGES / "study_embeddings.png")
    triplets(runs, IMAGES / "study_triplets.png")
    similarity(runs, IMAGES / "study_similarity.png")


if __name__ == "__main__":
    main()
