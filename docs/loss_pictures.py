"""Draw the curves of docs/loss.md: weights of pairs, and values, gradients and curvature of the losses of one triplet.

    python -m docs.loss_pictures

Writes docs/images/loss_weights.png and docs/images/loss_gradients.png from the formulas, within seconds.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

IMAGES = Path(__file__).parent / "images"
MARGIN, TEMPERATURE = 0.2, 0.1


def pair_weights() -> None:
    """Weights of s-triplet over the cosine of a pair: as released, for three batches, and as in Eq. 3."""
    cosine = np.linspace(-1, 1, 201)
    figure, axes = pyplot.subplots(figsize=(6, 3.8), layout="constrained")
    for least in (-1.0, 0.0, 0.8):
        seen = cosine[cosine >= least]
        unlike, largest = ((1 - c) / 2 + 0.01 for c in (seen, least))
        axes.plot(seen, 1 + unlike / largest, label=f'"released", least cosine of the batch {least:g}')
    axes.plot(cosine, (1 - cosine) / 2, "k--", label='"paper", f(x) = (1 - x) / 2')
    axes.set(xlabel="cosine of the pair", ylabel="weight of its distance", ylim=(-0.05, 2.1))
    axes.legend(fontsize=8)
    figure.savefig(IMAGES / "loss_weights.png", dpi=110)


def losses_of_a_triplet() -> None:
    """Value and gradient over how much the negative is nearer than the positive, and curvature over its distance."""
    gaps = np.linspace(-1, 1, 401, dtype=np.float32)
    losses = {
        f"hinge, margin {MARGIN:g}, on distances": lambda gap: jnp.maximum(gap + MARGIN, 0.0),
        "SimCE": lambda gap: jax.nn.softplus(gap / TEMPERATURE),
        "m-SimCE, 7 equal negatives": lambda gap: jax.nn.softplus(jnp.log(7.0) + gap / TEMPERATURE),
        "m-SimCE, 56 equal negatives": lambda gap: jax.nn.softplus(jnp.log(56.0) + gap / TEMPERATURE),
    }
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for index, (name, loss) in enumerate(losses.items()):
        values, gradients = jax.vmap(jax.value_and_grad(loss))(gaps)
        style = {"label": name, "color": f"C{index}", "linestyle": "-" if index < 2 else "--"}
        left.plot(gaps, values, **style)
        middle.plot(gaps, gradients, **style)
    away, features = np.linspace(0.05, 1.5, 200, dtype=np.float32), 64
    anchor = jnp.zeros(features).at[0].set(1.0)
    sideways = jnp.zeros(features).at[1].set(1.0)

    def hinge(negative):
        return MARGIN + 1.5 - jnp.linalg.norm(anchor - negative)  # positive at 1.5: the hinge is on everywhere

    def simce(negative):
        return jax.nn.softplus((anchor @ negative - 0.9) / TEMPERATURE)  # inner product with the positive: 0.9

    def curvature(loss):
        return jax.vmap(lambda d: jnp.abs(jnp.trace(jax.hessian(loss)(anchor - d * (0.6 * anchor + 0.8 * sideways)))))

    right.semilogy(away, curvature(hinge)(away), color="C0", label="hinge")
    right.semilogy(away, curvature(simce)(away), color="C1", label="SimCE")
    right.axhline(1 / (4 * TEMPERATURE**2), color="k", lw=1, ls=":", label="bound of SimCE, |a|² / 4T²")
    left.set(xlabel="gap: d_ap - d_an, or s_an - s_ap", ylabel="loss")
    middle.set(xlabel="gap: d_ap - d_an, or s_an - s_ap", ylabel="gradient by the gap")
    right.set(xlabel="distance of the negative from the anchor", ylabel="|trace of the Hessian by the negative|")
    right.set_ylim(0.1, 3000)
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    figure.suptitle(f"T = {TEMPERATURE:g}; right: {features} features, anchor of length 1")
    figure.savefig(IMAGES / "loss_gradients.png", dpi=110)


if __name__ == "__main__":
    pair_weights()
    losses_of_a_triplet()
