"""Scores and thresholds of identification, from the people who are enrolled."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.evaluation.distances import GalleryDistances
from gil_jax.evaluation.verification import threshold_at
from gil_jax.types import RowsOf


class Calibration(NamedTuple):
    """Line of the score in the distance, and distances of people who are not enrolled.

    slope, offset: score = 1 / (1 + exp(slope * distance + offset)), None where nobody has two sequences. strangers:
    for enrolled sequences, ascending, the distance to the nearest other person, as if their own person were not there.
    pairs: ascending distances to a person who is another one.
    """

    slope: float | None
    offset: float | None
    strangers: list[float]
    pairs: list[float]

    def score(self, distance: float) -> float | None:
        """Probability that a sequence at this distance is of the same person, where both are as likely before."""
        if self.slope is None or self.offset is None:
            return None
        return float(1 / (1 + np.exp(np.clip(self.slope * distance + self.offset, -500, 500))))

    def threshold(self, rate: float) -> float:
        """Distance up to which the nearest person is believed, so that at most `rate` of strangers are.

        With fewer than 1 / rate enrolled sequences it is just below the nearest of their strangers.
        """
        return _threshold(self.strangers, rate)

    def pair_threshold(self, rate: float) -> float:
        """Distance up to which a claimed name is believed, so that at most `rate` of false claims are."""
        return _threshold(self.pairs, rate)


def calibrate(
    gallery: GalleryDistances, subjects: Shaped[np.ndarray, " n"], picked: Int[np.ndarray, " m"]
) -> Calibration:
    """Compare enrolled sequences with all others: with their own person's, and with everybody else's.

    subjects: of the gallery, sorted. picked: rows that are compared. The score is Platt's (Advances in Large Margin
    Classifiers, 1999): a logistic regression of own against other on the distance to a person, with targets that keep
    it finite where the two never overlap; both sides weigh the same.
    """
    _, starts, inverse = np.unique(subjects, return_index=True, return_inverse=True)
    own, strangers, pairs = [], [], []
    for place, block in gallery.rows(RowsOf(gallery.embeddings, picked)):
        rows = picked[place]
        block[np.arange(len(rows)), rows] = np.inf  # not with itself
        people = np.minimum.reduceat(block, starts, axis=1)
        mine = inverse[rows]
        own.append(people[np.arange(len(rows)), mine])
        people[np.arange(len(rows)), mine] = np.inf
        strangers.append(people.min(axis=1))
        pairs.append(_thinned(people[np.isfinite(people)]))
    near, far = np.concatenate(own), np.concatenate(strangers)
    near, far = near[np.isfinite(near)], np.sort(far[np.isfinite(far)])
    line = _platt(near.astype(float), far.astype(float)) if len(near) and len(far) else (None, None)
    return Calibration(*line, far.tolist(), np.sort(_thinned(np.concatenate(pairs))).tolist())


def _threshold(distances: list[float], rate: float) -> float:
    if not 0 < rate < 1:
        raise ValueError(f"--far={rate}: give a share of strangers between 0 and 1, e.g. 0.01")
    if not distances:
        return float("inf")  # one person alone: there is nothing to tell a stranger by
    values = np.array(distances, np.float32)
    threshold = threshold_at(values, rate)
    return float(np.nextafter(values[0], np.float32(0))) if threshold is None else threshold


def _platt(own: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """Fit (slope, offset) by Newton's method on the standardised distances."""
    distance = np.concatenate([own, other])
    target = np.repeat([(len(own) + 1) / (len(own) + 2), 1 / (len(other) + 2)], [len(own), len(other)])
    weight = np.repeat([0.5 / len(own), 0.5 / len(other)], [len(own), len(other)])
    middle, width = distance.mean(), distance.std() + 1e-12
    x = np.stack([(distance - middle) / width, np.ones_like(distance)], axis=1)
    line = np.zeros(2)
    for _ in range(100):
        probability = 1 / (1 + np.exp(np.clip(x @ line, -50, 50)))
        gradient = x.T @ (weight * (target - probability))
        curvature = (x * (weight * probability * (1 - probability))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        line = line - step / max(1.0, np.abs(step).max())
    slope = line[0] / width
    return float(slope), float(line[1] - slope * middle)


def _thinned(values: Float[np.ndarray, " n"], most: int = 20_000) -> Float[np.ndarray, " m"]:
    """Evenly spaced order statistics of many values."""
    if len(values) <= most:
        return values
    return np.sort(values)[np.linspace(0, len(values) - 1, most).astype(int)]
