"""The losses that a network can be trained with: term -> fields. The argument of a config names one of them.

triplet       the plain triplet loss, no cross entropy: what GaitSet, GaitPart and GLN were published with
triplet_ce    plain triplet and cross entropy: the paper's baseline (Table 3, #1; with augmentation #2)
s_triplet     s-triplet (Eq. 3, weights as in the released code) and cross entropy: the paper's Table 3, #3
l_s           the paper's L_s (Eq. 11): s-triplet, cross entropy and SimCE (Eq. 4), all coefficients 1 (section 4.2)
l_m           the paper's L_m (Eq. 11): s-triplet, cross entropy and m-SimCE (Eq. 10), all coefficients 1
l_s_distance  ours: L_s with SimCE on distances, whose gradient does not depend on how long embeddings are
as_released   the released configuration for OU-MVLP: L_s with smoothed cross entropy, SimCE filtered from step 50,000
gil           another name of l_s, the form of the paper's Tables 2 and 4
"""

from ml_collections import ConfigDict

TRIPLET = {"weight": 1.0, "schedule": (), "margin": 0.2, "weights": "none"}
S_TRIPLET = TRIPLET | {"weights": "released"}  # or "paper", f(x) = (1 - x) / 2 alone
SIMCE = {
    # The paper's coefficient. On W GPUs the released code's gradient of SimCE is 1/W of what its weight says, as its
    # gather is not scaled back; its launch line has 8. So --config.loss.simce.weight=0.125 is what the authors' runs
    # amount to, if they were started by that line, and the value to try where weight 1 stays at log 2.
    "weight": 1.0,
    "schedule": (),  # ((step, weight), ...): the weight from those steps on
    "temperature": 0.1,
    "similarity": "dot",  # or "cosine", "distance", both ours
    "filter_from_step": -1,  # first step of the filtered form; -1: never
    "gate_weight": 0.5,  # of a triplet that the filter's part gets wrong
}
M_SIMCE = {"weight": 1.0, "schedule": (), "temperature": 0.1, "similarity": "dot"}
CROSS_ENTROPY = {"weight": 1.0, "schedule": (), "scale": 1.0, "smoothing": 0.0}

L_S = {"s_triplet": S_TRIPLET, "simce": SIMCE, "cross_entropy": CROSS_ENTROPY}
RECIPES = {
    "triplet": {"s_triplet": TRIPLET},
    "triplet_ce": {"s_triplet": TRIPLET, "cross_entropy": CROSS_ENTROPY},
    "s_triplet": {"s_triplet": S_TRIPLET, "cross_entropy": CROSS_ENTROPY},
    "l_s": L_S,
    "l_m": {"s_triplet": S_TRIPLET, "m_simce": M_SIMCE, "cross_entropy": CROSS_ENTROPY},
    "l_s_distance": L_S | {"simce": SIMCE | {"similarity": "distance", "temperature": 0.2}},
    "as_released": L_S
    | {"simce": SIMCE | {"filter_from_step": 50_000}, "cross_entropy": CROSS_ENTROPY | {"smoothing": 0.1}},
    "gil": L_S,
}


def loss_recipe(name: str) -> ConfigDict:
    """Build the loss config of a recipe."""
    if name not in RECIPES:
        raise ValueError(f"no loss recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return ConfigDict(RECIPES[name])
