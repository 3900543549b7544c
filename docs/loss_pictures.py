"""The pictures of docs/loss.md.

    python -m docs.loss_pictures curves
    python -m docs.loss_pictures embeddings --workdirs=runs/triplet,runs/gil

`curves` writes loss_weights.png and loss_slopes.png. `embeddings` writes loss_embeddings.png: the test people's
sequences under networks that were trained alike but for the loss, one workdir each.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

from gil_jax.ops.pairs import classes_of
from gil_jax.ops.triplets import hinge_over_triplets, softplus_over_triplets

IMAGES = Path(__file__).parent / "images"


def pair_weights() -> None:
    """w = 1 + u / max u over the cosine of a pair, for batches whose least alike pair differs."""
    cosine = np.linspace(-1, 1, 201)
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    for least in (-1.0, 0.0, 0.8):
        seen = cosine[cosine >= least]
        unlike, most = (1 - (c + 1) / 2 + 0.01 for c in (seen, least))
        axes.plot(seen, 1 + unlike / most, label=f"least cosine of the batch {least:g}")
    axes.set(xlabel="cosine of the pair", ylabel="weight of its distance")
    axes.legend()
    figure.savefig(IMAGES / "loss_weights.png", dpi=110)


def slopes_of_a_triplet() -> None:
    """What one triplet feels, by the losses themselves, while its negative comes nearer."""
    classes = classes_of(jnp.array([0, 0, 1]))
    gaps = np.linspace(-1, 1, 201, dtype=np.float32)

    def distances(gap):
        """Of the six triplets of two rows of a class and one of another, all but (0, 1, 2) are far from the margin."""
        return jnp.array([[0.0, 0.0, 100.0], [10.0, 0.0, 100.0], [0.0, 100.0, 0.0]]).at[2, 0].set(10.0 - gap)

    def hinge(gap):
        return hinge_over_triplets(distances(gap), classes, jnp.float32(0.2))[0]

    def softplus(temperature):
        def loss(gap):
            return 6 * softplus_over_triplets(-distances(gap) / temperature, classes)[0]

        return loss

    losses = {"hinge, margin 0.2": hinge} | {f"softplus, T = {t:g}": softplus(t) for t in (0.1, 0.3)}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for name, loss in losses.items():
        values, slopes = jax.vmap(jax.value_and_grad(loss))(gaps)
        left.plot(gaps, values, label=name)
        right.plot(gaps, slopes, label=name)
    left.set(xlabel="distance to the positive - distance to the negative", ylabel="loss")
    right.set(xlabel="distance to the positive - distance to the negative", ylabel="slope", ylim=(-0.5, 12))
    left.legend()
    figure.savefig(IMAGES / "loss_slopes.png", dpi=110)


def embeddings(workdirs: list[str]) -> None:
    """All parts of a sequence in a row, on the two axes along which the test people's means differ most."""
    from ml_collections import ConfigDict

    from gil_jax.checkpoint import load_network
    from gil_jax.evaluation.embedding import embed_split, make_embed
    from gil_jax.sharding import make_mesh
    from gil_jax.train_loop import open_data
    from gil_jax.train_state import make_network

    figure, panels = pyplot.subplots(
        1, len(workdirs), figsize=(5 * len(workdirs), 5), layout="constrained", squeeze=False
    )
    for workdir, axes in zip(workdirs, panels[0], strict=True):
        config = ConfigDict(json.loads((Path(workdir) / "config.json").read_text(encoding="utf-8")))
        step, params, batch_stats = load_network(str(Path(workdir).absolute()))
        data, mesh = open_data(config), make_mesh()
        table = data.source.table
        people = data.split.test[:10]
        rows = np.flatnonzero(np.isin(table.subjects, people) & (table.lengths > 0))
        embed = make_embed(make_network(config.model), mesh)
        found, _ = embed_split(
            lambda *batch, e=embed, p=params, b=batch_stats: e(p, b, *batch), mesh, data.source, rows, config.eval
        )
        points = found.embeddings.reshape(len(rows), -1)
        means = np.stack([points[found.subjects == subject].mean(0) for subject in people])
        _, _, directions = np.linalg.svd(means - means.mean(0), full_matrices=False)
        flat = (points - means.mean(0)) @ directions[:2].T
        for subject in people:
            axes.scatter(*flat[found.subjects == subject].T, s=6, label=subject)
        axes.set(title=f"{Path(workdir).name}, step {step}", xticks=[], yticks=[])
    panels[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), title="test person")
    figure.savefig(IMAGES / "loss_embeddings.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=("curves", "embeddings"))
    parser.add_argument("--workdirs", default="", help="of the networks to compare, separated by commas")
    arguments = parser.parse_args()
    if arguments.picture == "curves":
        pair_weights()
        slopes_of_a_triplet()
    elif arguments.workdirs:
        embeddings(arguments.workdirs.split(","))
    else:
        parser.error("embeddings needs --workdirs=<one>,<another>")


if __name__ == "__main__":
    main()
