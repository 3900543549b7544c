"""Verification (are these two the same person?) and open-set identification (is this anybody enrolled?)."""

import numpy as np
from jaxtyping import Float, Int

from gil_jax.evaluation.ranking import BITS, Ranking

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3, 1e-4)


def verification(genuine: Int[np.ndarray, " bins"], impostor: Int[np.ndarray, " bins"]) -> dict | None:
    """Rates of accepting pairs whose distance is at most a threshold; None without pairs of both kinds.

    genuine, impostor: histograms of the distances of pairs of one and of two people, as a Ranking holds them. FAR is
    the share of impostor pairs accepted, TAR the share of genuine ones. Returns {"genuine_pairs", "impostor_pairs",
    "eer": percent where FAR and 1 - TAR meet, "eer_threshold", "tar": {far: percent}, "threshold": {far: distance},
    "roc": [[FAR, TAR], ...] in percent}. A FAR for which there are too few pairs (fewer than 1 / FAR) gives None.
    """
    pairs = int(genuine.sum()), int(impostor.sum())
    if not all(pairs):
        return None
    edges = np.flatnonzero(genuine + impostor)
    accepted = np.cumsum(genuine[edges]) / pairs[0]
    falsely = np.cumsum(impostor[edges]) / pairs[1]
    thresholds = _upper_edges(edges)
    # Nothing accepted is a point of the curve too.
    accepted, falsely = np.concatenate([[0.0], accepted]), np.concatenate([[0.0], falsely])
    thresholds = np.concatenate([[0.0], thresholds])
    meet = int(np.argmin(np.abs(falsely - (1 - accepted))))
    at = {rate: int(np.searchsorted(falsely, rate, "right")) - 1 for rate in FALSE_ACCEPT_RATES}
    enough = {rate: pairs[1] * rate >= 1 for rate in FALSE_ACCEPT_RATES}
    curve = np.unique(np.searchsorted(falsely, np.logspace(-5, 0, 41), "right") - 1)
    return {
        "genuine_pairs": pairs[0],
        "impostor_pairs": pairs[1],
        "eer": 50 * float(falsely[meet] + 1 - accepted[meet]),
        "eer_threshold": float(thresholds[meet]),
        "tar": {f"{rate:g}": 100 * float(accepted[at[rate]]) if enough[rate] else None for rate in at},
        "threshold": {f"{rate:g}": float(thresholds[at[rate]]) if enough[rate] else None for rate in at},
        "roc": [[100 * float(falsely[i]), 100 * float(accepted[i])] for i in curve],
    }


def distance_histograms(
    genuine: Int[np.ndarray, " bins"], impostor: Int[np.ndarray, " bins"], number: int = 60
) -> dict | None:
    """Count distances in equal steps from the smallest to the largest; None without pairs of both kinds.

    genuine, impostor: as in `verification`. Returns {"from": smallest distance, "to": largest, "genuine": pairs in each
    of `number` steps, "impostor": the same}.
    """
    if not genuine.any() or not impostor.any():
        return None
    edges = np.flatnonzero(genuine + impostor)
    distances = _upper_edges(edges)
    limits = float(distances[0]), float(max(distances[-1], np.nextafter(distances[0], np.inf)))
    counts = {
        name: np.histogram(distances, number, limits, weights=pairs[edges])[0].astype(np.int64).tolist()
        for name, pairs in (("genuine", genuine), ("impostor", impostor))
    }
    return {"from": limits[0], "to": limits[1], **counts}


def open_set(ranking: Ranking) -> dict | None:
    """Rates of open-set identification: DIR at FAR (Phillips et al., Handbook of Face Recognition, 2011).

    DIR is the share of probes with a gallery whose nearest sequence is the right person's and within the threshold;
    FAR is the share of strangers whose nearest sequence is. Strangers are the probes of people without a gallery; where
    there are none, every probe, with its own person's sequences taken out of the gallery. Returns {"strangers": their
    number, "simulated", "dir": {far: percent}, "threshold": {far: distance}}, or None where there is nobody to find.
    """
    enrolled = np.isfinite(ranking.own) & np.isfinite(ranking.other)
    real = ~np.isfinite(ranking.own) & np.isfinite(ranking.other)
    strangers = np.sort(ranking.other[real] if real.any() else ranking.other[enrolled])
    if not enrolled.any() or not len(strangers):
        return None
    right = ranking.own[enrolled][ranking.own[enrolled] < ranking.other[enrolled]]
    rates: dict[str, float | None] = {}
    thresholds: dict[str, float | None] = {}
    for rate in FALSE_ACCEPT_RATES[:3]:
        threshold = thresholds[f"{rate:g}"] = threshold_at(strangers, rate)
        found = None if threshold is None else 100 * np.count_nonzero(right <= threshold) / int(enrolled.sum())
        rates[f"{rate:g}"] = found
    return {"strangers": len(strangers), "simulated": not bool(real.any()), "dir": rates, "threshold": thresholds}


def threshold_at(strangers: Float[np.ndarray, " n"], rate: float) -> float | None:
    """Find the largest distance that accepts at most a share `rate` of strangers; None where n * rate < 1.

    strangers: distances of their nearest gallery sequences, ascending.
    """
    allowed = int(np.floor(len(strangers) * rate + 1e-9))
    if allowed < 1:
        return None
    if allowed >= len(strangers):
        return float(strangers[-1])
    # Just below the first one too many; equal distances are accepted or refused together.
    return float(np.nextafter(np.float32(strangers[allowed]), np.float32(0)))


def _upper_edges(bins: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Largest distance of each bin."""
    return (((bins.astype(np.int64) + 1) << BITS) - 1).astype(np.int32).view(np.float32).astype(np.float64)
