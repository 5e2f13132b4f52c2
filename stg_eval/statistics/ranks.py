"""Ranks that say what they know: between which places of a leaderboard a row may stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # brings in scipy.stats, which is slow to import, when it is first used
from numpy.typing import ArrayLike

from stg_eval.statistics.holm import holm
from stg_eval.statistics.nouns import cluster_codes


def paired_p_values(values: ArrayLike, clusters: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Compute the two-sided p-value of each pair of columns, float [k, k], for scores [n, k] of the same n clips.

    Student's t of the paired difference with one draw a cluster (Taylor linearisation): all k (k - 1) / 2 differences
    cost one product of matrices. No p-value is below 2^(1 - clusters), the least that swapping labels could give.
    """
    values = np.asarray(values, dtype=np.float64)
    n, k = values.shape
    codes = cluster_codes(clusters, n)
    groups = int(codes.max(initial=-1)) + 1
    if groups < 2:
        return np.full((k, k), np.nan)
    means = values.mean(axis=0)
    residuals = np.zeros((groups, k))
    np.add.at(residuals, codes, values - means)
    shared = groups / (groups - 1) * residuals.T @ residuals / n**2
    own = np.diag(shared)
    variances = own[:, None] + own[None, :] - 2 * shared
    variances[variances < 1e-12 * (own[:, None] + own[None, :])] = 0.0  # equal columns, up to rounding
    found: np.ndarray = np.maximum(
        _p_values(means[:, None] - means[None, :], variances, groups - 1), 2.0 ** (1 - groups)
    )
    return found


def p_values_of_intervals(values: ArrayLike, low: ArrayLike, high: ArrayLike, degrees: int) -> np.ndarray:
    """Compute p-values [k, k] from values [k] and their 95 % intervals, as if the k were independent: with scores that
    go up and down together it is too careful. nan where a value or an interval is."""
    values, low, high = (np.asarray(x, dtype=np.float64) for x in (values, low, high))
    variances = ((high - low) / 2 / scipy.stats.t.ppf(0.975, degrees)) ** 2
    return _p_values(values[:, None] - values[None, :], variances[:, None] + variances[None, :], degrees)


def reliably_better(
    values: ArrayLike, p_values: np.ndarray, *, higher_is_better: bool, level: float = 0.05
) -> np.ndarray:
    """Say which row beats which, bool [k, k]: row i is beaten by row j. Holm over all pairs, so that the chance of any
    false claim in the whole table is `level`."""
    values = np.asarray(values, dtype=np.float64)
    k = len(values)
    above = np.triu_indices(k, 1)
    adjusted = np.full((k, k), np.nan)
    adjusted[above] = holm(p_values[above])
    adjusted = np.fmin(adjusted, adjusted.T)
    gain = values[None, :] - values[:, None]
    beaten: np.ndarray = (adjusted <= level) & ((gain > 0) if higher_is_better else (gain < 0))
    return beaten


def rank_ranges(beaten: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and the last place that each row may have: one behind those that beat it, and before those that
    it beats. With `reliably_better` the ranges hold together with the confidence of its level (Mogstad, Romano, Shaikh
    and Wilhelm, 2024, "Inference for Ranks with Applications to Mobility across Neighbourhoods and Academic Achievement
    across Countries", Review of Economic Studies)."""
    k = len(beaten)
    return [(1 + int(beaten[i].sum()), k - int(beaten[:, i].sum())) for i in range(k)]


def _p_values(differences: np.ndarray, variances: np.ndarray, degrees: int) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.abs(differences) / np.sqrt(variances)
    p_values: np.ndarray = 2 * scipy.stats.t.sf(t, degrees)
    return np.where((variances == 0) & (differences == 0), 1.0, p_values)
