"""Cells and means of a ranking: rank-k, CMC, mAP, mINP, and how sure they are."""

import numpy as np
from jaxtyping import Float, Int, Shaped

from gil_jax.evaluation.ranking import Ranking

RANKS = (1, 5, 10, 20)
MEASURES = (*(f"rank{k}" for k in RANKS), "mAP", "mINP", "rank1_all", "rank1_with_gallery")
LONGEST_CMC = 50


def score(ranking: Ranking, measure: str, counts: str) -> Float[np.ndarray, "a g"]:
    """Value of a measure for every probe in every gallery, 0 to 1, NaN where the probe does not count.

    measure: one of MEASURES, or "rank<k>" for any k. counts: "all" or "with_gallery", of the protocol; "rank1_all" and
    "rank1_with_gallery" have their own. mAP and mINP (Ye et al., TPAMI 2021) are of probes with a match alone.
    """
    if measure in ("mAP", "mINP"):
        return ranking.precision if measure == "mAP" else ranking.penalty
    k, _, own = measure.removeprefix("rank").partition("_")
    hit = ((ranking.first > 0) & (ranking.first <= int(k))).astype(np.float64)
    if (own or counts) == "with_gallery":
        hit[ranking.first == 0] = np.nan
    hit[:, ranking.sizes == 0] = np.nan
    return hit


def cells(ranking: Ranking, measure: str, counts: str = "all") -> Float[np.ndarray, "v g"]:
    """Percent of every cell [probe view, gallery], rounded to 2 decimals; NaN where nothing is compared."""
    total, number = _sums(score(ranking, measure, counts), ranking.view, len(ranking.views))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.around(100 * total / number, 2)


def summarize(matrix: Float[np.ndarray, "v g"], square: bool) -> dict:
    """Means of a matrix of cells, in percent; None where nothing was compared.

    square: lines and columns are the same views, so that the diagonal compares identical views. Returns "matrix";
    "by_probe_view": mean of each line without the identical view; "including_identical_view": mean of all cells;
    "excluding_identical_view": mean of "by_probe_view", None where no views are told apart.
    """
    others = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix) if square else matrix
    by_line = [_mean(line) for line in others]
    return {
        "matrix": [[_or_none(x) for x in line] for line in matrix],
        "by_probe_view": [_or_none(x) for x in by_line],
        "including_identical_view": _or_none(_mean(matrix)),
        "excluding_identical_view": _or_none(_mean(np.array(by_line))) if square else None,
    }


def headline(summary: dict) -> float | None:
    """The number that is quoted: without identical views where there are others, else of all cells."""
    excluding = summary["excluding_identical_view"]
    return summary["including_identical_view"] if excluding is None else excluding


def cmc(ranking: Ranking, counts: str) -> list[float | None]:
    """Cumulative match characteristic: the quoted rank-k for k = 1, 2, ... in percent."""
    square = is_square(ranking)
    longest = min(LONGEST_CMC, int(ranking.sizes.max(initial=0)))
    return [headline(summarize(cells(ranking, f"rank{k}", counts), square)) for k in range(1, longest + 1)]


def is_square(ranking: Ranking) -> bool:
    """Tell whether lines and columns of the cells are the same views."""
    return ranking.views == ranking.galleries and ranking.views != ["all"]


def bootstrap(
    rankings: list[Ranking], counts: str, samples: int, measure: str = "rank1", seed: int = 0
) -> Float[np.ndarray, "r b"]:
    """Draw the people of the probes with replacement, `samples` times, and compute the quoted number of each draw.

    rankings: of the same probes, e.g. by two networks; every draw takes the same people for all of them, so that the
    difference of two lines is a paired bootstrap. Returns percent, [rankings, samples]; NaN where nobody counts.
    """
    people, person = np.unique(rankings[0].people, return_inverse=True)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(people), np.full(len(people), 1 / len(people)), size=samples).astype(np.float64)
    result = []
    for ranking in rankings:
        if not np.array_equal(ranking.people, rankings[0].people):
            raise ValueError("the two evaluations have other probes: compare runs on the same data, split and protocol")
        lines = person * len(ranking.views) + ranking.view
        total, number = _sums(score(ranking, measure, counts), lines, len(people) * len(ranking.views))
        shape = (len(people), -1)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = 100 * (weights @ total.reshape(shape)) / (weights @ number.reshape(shape))
        result.append(_quoted(rates.reshape(samples, len(ranking.views), -1), is_square(ranking)))
    return np.stack(result)


def interval(values: Float[np.ndarray, " b"], coverage: float = 0.95) -> list[float] | None:
    """Percentile interval [low, high] of bootstrap draws; None where there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = 100 * (1 - coverage) / 2
    return [float(x) for x in np.percentile(values, [tail, 100 - tail])]


def _quoted(rates: Float[np.ndarray, "b v g"], square: bool) -> Float[np.ndarray, " b"]:
    """`headline` of many matrices at once."""
    if square and rates.shape[1] > 1:
        rates = np.where(np.eye(rates.shape[1], dtype=bool), np.nan, rates)
    return _nanmean(_nanmean(rates)) if square else _nanmean(rates.reshape(len(rates), -1))


def _nanmean(values: Float[np.ndarray, "... g"]) -> Float[np.ndarray, "..."]:
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis=-1) / there.sum(axis=-1)


def _sums(
    values: Float[np.ndarray, "a g"], line: Int[np.ndarray, " a"], lines: int
) -> tuple[Float[np.ndarray, "v g"], Float[np.ndarray, "v g"]]:
    """Sum and number of the values that count, by line."""
    there = ~np.isnan(values)
    total, number = np.zeros((2, lines, values.shape[1]))
    np.add.at(total, line, np.where(there, values, 0))
    np.add.at(number, line, there)
    return total, number


def _mean(values: Shaped[np.ndarray, "..."]) -> float:
    counted = np.asarray(values, float)[~np.isnan(np.asarray(values, float))]
    return float(counted.mean()) if counted.size else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
