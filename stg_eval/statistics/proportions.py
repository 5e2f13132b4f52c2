"""Computes intervals and a test for 0/1 scores, where a bootstrap of equal scores would have no width.

Scores come summed by cluster: hits, wins and losses [groups], out of counts [groups] clips.
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # brings in scipy.special, which is slow to import, when it is first used
from numpy.typing import ArrayLike


def share_interval(hits: np.ndarray, counts: np.ndarray, level: float) -> tuple[float, float]:
    """Compute the interval of the share hits / counts over two or more clusters, Clopper-Pearson at the effective n
    (Korn and Graubard, 1998, "Confidence Intervals for Proportions with Small Expected Number of Positive Counts").

    The effective size is that of independent clips with the same variance, and less for few clusters, whose variance
    is little known. Where no cluster differs from another it is their number: nothing says that clips of one cluster
    are independent.
    """
    n, groups = int(counts.sum()), len(counts)
    share = hits.sum() / n
    variance = _covariance(hits, hits, counts)
    n_effective = float(groups)
    if variance > 0:
        few = scipy.special.stdtrit(n - 1, 0.5 + level / 2) / scipy.special.stdtrit(groups - 1, 0.5 + level / 2)
        n_effective = min(n, share * (1 - share) / variance * few**2)
    effective_hits, tail = share * n_effective, (1 - level) / 2
    low = scipy.special.betaincinv(effective_hits, n_effective - effective_hits + 1, tail) if share > 0 else 0.0
    high = scipy.special.betainccinv(effective_hits + 1, n_effective - effective_hits, tail) if share < 1 else 1.0
    return float(low), float(high)


def difference_interval(wins: np.ndarray, losses: np.ndarray, counts: np.ndarray, level: float) -> tuple[float, float]:
    """Compute the interval of a paired difference: the share of pairs won less the share of pairs lost.

    Joins the intervals of the two shares (Zou and Donner, 2008, "Construction of Confidence Limits About Effect
    Measures"). Without a discordant pair it is +- the most that either share may be: .0362 for 100 clusters.
    """
    n = counts.sum()
    won, lost = wins.sum() / n, losses.sum() / n
    (won_low, won_high), (lost_low, lost_high) = (share_interval(x, counts, level) for x in (wins, losses))
    spread = math.sqrt(_covariance(wins, wins, counts) * _covariance(losses, losses, counts))
    r = _covariance(wins, losses, counts) / spread if spread else 0.0

    def joined(a: float, b: float) -> float:
        return math.sqrt(max(a * a + b * b - 2 * r * a * b, 0))

    below = joined(won - won_low, lost_high - lost)
    above = joined(won_high - won, lost - lost_low)
    return float(won - lost - below), float(won - lost + above)


def mcnemar(values: ArrayLike, baseline_values: ArrayLike) -> float:
    """Compute McNemar's exact two-sided p-value of paired 0/1 scores [n]: a binomial test of the discordant pairs."""
    values, baseline_values = np.asarray(values), np.asarray(baseline_values)
    wins, losses = int((values > baseline_values).sum()), int((values < baseline_values).sum())
    fewer = min(wins, losses)
    at_most = scipy.special.betaincc(fewer + 1, max(wins, losses), 0.5)  # P(X <= fewer), X binomial with p = 1/2
    return min(1.0, 2 * float(at_most)) if wins + losses else 1.0


def _covariance(a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> float:
    """Return covariance of the shares a / counts and b / counts, each cluster being one draw (Taylor linearisation)."""
    n, groups = float(counts.sum()), len(counts)
    residuals = (n * a - a.sum() * counts) * (n * b - b.sum() * counts)  # of whole numbers: equal clusters give 0.0
    return float(groups / (groups - 1) * residuals.sum() / n**4)
