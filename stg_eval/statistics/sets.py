"""Computes intervals and tests of scores that belong to a set of clips (FVD, IS, recall, ...), not to one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy  # brings in scipy.special, which is slow to import, when it is first used

from stg_eval.statistics.nouns import SEED, Difference, Interval, cluster_codes
from stg_eval.types import StgEvalError

LABEL_SWAPS = 499
"""Most label swaps of a set statistic: each costs two evaluations."""
GROUPS = 24
"""Groups of the jackknife."""

Statistic = Callable[[np.ndarray], float]
"""Features float32 [n, D] -> the score of the set."""


def set_interval(
    statistic: Statistic,
    features: np.ndarray,
    clusters: Sequence[Any] | np.ndarray,
    *,
    level: float = 0.95,
    groups: int = GROUPS,
    seed: int = SEED,
) -> Interval:
    """Compute a set metric (FVD, IS, recall, ...) of features [n, D] and its delete-a-group jackknife interval.

    Whole clusters are dealt at random into `groups` groups; each leaves in turn; Student's t with groups - 1 degrees
    (Kott, 2001, "The Delete-a-Group Jackknife"). Costs `groups` + 1 evaluations. A percentile bootstrap must not be
    used here: resampling repeats clips, which lowers the rank of the covariance, and moves FVD bodily upwards (two
    sets of 512 from one normal distribution, d=256: 66, yet every resample of one of them gives 92 or so).
    The interval is for the expected score at this n: FVD keeps its small-sample bias.
    """
    features = _finite(features)
    value = statistic(features)
    replicates = [statistic(features[kept]) for kept in _leave_one_group_out(clusters, len(features), groups, seed)]
    return Interval(value, *_jackknife(value, replicates, level), len(features))


def paired_set_difference(
    statistic: Statistic,
    features: np.ndarray,
    baseline_features: np.ndarray,
    clusters: Sequence[Any] | np.ndarray,
    *,
    level: float = 0.95,
    groups: int = GROUPS,
    label_swaps: int = LABEL_SWAPS,
    seed: int = SEED,
) -> Difference:
    """Compute statistic(features) - statistic(baseline_features), both [n, D] and paired by row, with interval and
    p-value.

    The interval is a delete-a-group jackknife of the difference (the same clusters leave both sides). The p-value
    swaps the two labels of random clusters: exact if the sides are exchangeable. It stops as soon as 20 swaps reach
    the observed difference (Besag and Clifford, 1991, "Sequential Monte Carlo p-values"), so equal sets cost little.
    With `label_swaps=0` the p-value is the jackknife's t test, at `groups` + 1 evaluations a side.
    """
    features, baseline_features = _finite(features), _finite(baseline_features)
    if features.shape != baseline_features.shape:
        raise ValueError(f"features {features.shape} and baseline {baseline_features.shape} are not paired")

    def difference(a: np.ndarray, b: np.ndarray) -> float:
        return statistic(a) - statistic(b)

    observed = difference(features, baseline_features)
    replicates = [
        difference(features[kept], baseline_features[kept])
        for kept in _leave_one_group_out(clusters, len(features), groups, seed)
    ]
    low, high = _jackknife(observed, replicates, level)
    if math.isnan(low) or np.array_equal(features, baseline_features):
        p_value = math.nan if math.isnan(low) else 1.0
    elif label_swaps:
        p_value = _label_swap_p_value(difference, observed, features, baseline_features, clusters, label_swaps, seed)
    else:
        error = _jackknife_error(replicates)
        p_value = float(observed == 0)
        if error:
            p_value = float(2 * scipy.special.stdtr(len(replicates) - 1, -abs(observed) / error))
    return Difference(observed, low, high, p_value, len(features))


def _label_swap_p_value(
    difference: Callable[[np.ndarray, np.ndarray], float],
    observed: float,
    features: np.ndarray,
    baseline_features: np.ndarray,
    clusters: Sequence[Any] | np.ndarray,
    label_swaps: int,
    seed: int,
    enough: int = 20,
) -> float:
    codes = cluster_codes(clusters, len(features))
    rng = np.random.default_rng(seed)
    hits = 0
    for done in range(1, label_swaps + 1):
        swapped = rng.integers(2, size=codes.max() + 1).astype(bool)[codes][:, None]
        a, b = np.where(swapped, baseline_features, features), np.where(swapped, features, baseline_features)
        hits += abs(difference(a, b)) >= abs(observed) * (1 - 1e-9)
        if hits == enough:
            return hits / done
    return (1 + hits) / (1 + label_swaps)


def _leave_one_group_out(clusters: Sequence[Any] | np.ndarray, n: int, groups: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the indices of the rows that stay, for each group in turn; nothing where there is one cluster."""
    codes = cluster_codes(clusters, n)
    clusters_there = int(codes.max()) + 1 if n else 0
    dealt = np.arange(clusters_there) % min(groups, clusters_there) if clusters_there else np.empty(0, dtype=np.intp)
    np.random.default_rng(seed).shuffle(dealt)
    if clusters_there >= 2:
        for group in range(min(groups, clusters_there)):
            yield np.flatnonzero(dealt[codes] != group)


def _jackknife_error(replicates: Sequence[float]) -> float:
    return math.sqrt((len(replicates) - 1) * float(np.var(replicates)))


def _jackknife(value: float, replicates: Sequence[float], level: float) -> tuple[float, float]:
    if len(replicates) < 2:
        return math.nan, math.nan
    half = float(scipy.special.stdtrit(len(replicates) - 1, 0.5 + level / 2)) * _jackknife_error(replicates)
    return value - half, value + half


def _finite(features: np.ndarray) -> np.ndarray:
    bad = int((~np.isfinite(features).all(axis=1)).sum())
    if bad:
        raise StgEvalError(f"features of {bad} of {len(features)} clips are not finite; delete and score those again")
    return features
