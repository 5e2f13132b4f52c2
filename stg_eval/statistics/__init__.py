"""Intervals and tests for scores that come in pairs (same case, same seed) and in clusters (same prompt).

Everything is seeded, so equal input gives equal output. A nan score (undefined for that clip) takes no part, together
with its partner in a pair; `n` counts what took part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy  # brings in scipy.stats, which is slow to import, when it is first used
from numpy.typing import ArrayLike

from stg_eval.statistics.proportions import difference_interval, mcnemar, share_interval
from stg_eval.types import StgEvalError

RESAMPLES = 4000
"""Bootstrap resamples of an interval."""
SIGN_FLIPS = 9999
"""Random label swaps of a paired test of means: the smallest p-value is 1e-4."""
LABEL_SWAPS = 499
"""Most label swaps of a set statistic: each costs two evaluations."""
GROUPS = 24
"""Groups of the jackknife."""
SEED = 0

Statistic = Callable[[np.ndarray], float]
"""Features float32 [n, D] -> the score of the set."""


class Interval(NamedTuple):
    """A value and its interval; low and high are nan where fewer than two clusters have values."""

    value: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """A paired difference (values - baseline), its interval, and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def mean_interval(
    values: ArrayLike, clusters: Sequence[Any] | np.ndarray, *, level: float = 0.95, seed: int = SEED
) -> Interval:
    """Mean of values [n] with a bootstrap interval that resamples whole clusters (clips of one prompt stand together).

    The percentiles are widened for few clusters as in Hesterberg (2015), "What Teachers Should Know About the
    Bootstrap", 3.3. 0/1 scores have the interval of `stg_eval.statistics.proportions.share_interval`.
    """
    values = np.asarray(values, dtype=np.float64)
    sums, counts = _cluster_sums(values, clusters)
    n, groups = int(counts.sum()), len(sums)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(sums.sum() / n)
    if groups < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, n)
    if _zero_one(values):
        return Interval(mean, *share_interval(sums, counts, level), n)
    return Interval(mean, *_bootstrap_interval(sums, counts, level, seed), n)


def paired_mean_difference(
    values: ArrayLike,
    baseline_values: ArrayLike,
    clusters: Sequence[Any] | np.ndarray,
    *,
    level: float = 0.95,
    seed: int = SEED,
) -> Difference:
    """Mean of values - baseline_values (both [n], paired by position), clustered bootstrap interval and p-value.

    The p-value swaps the labels of whole clusters (a sign flip of their differences): exact if the two sides are
    exchangeable, enumerated up to 13 clusters. With 0/1 scores and one pair a cluster it is McNemar's exact test. 0/1
    scores have the interval of `stg_eval.statistics.proportions.difference_interval`: few equal pairs still may differ.
    """
    values, baseline_values = (np.asarray(v, dtype=np.float64) for v in (values, baseline_values))
    differences = values - baseline_values
    sums, counts = _cluster_sums(differences, clusters)
    n, groups = int(counts.sum()), len(sums)
    if n == 0:
        return Difference(math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(sums.sum() / n)
    if groups < 2 or not math.isfinite(mean):
        return Difference(mean, math.nan, math.nan, math.nan, n)
    defined = ~np.isnan(differences)
    if _zero_one(values[defined]) and _zero_one(baseline_values[defined]):
        wins, _ = _cluster_sums(np.maximum(differences, 0), clusters)
        low, high = difference_interval(wins, wins - sums, counts, level)
        p_value = mcnemar(values[defined], baseline_values[defined]) if n == groups else _sign_flip_p_value(sums, seed)
    else:
        low, high = _bootstrap_interval(sums, counts, level, seed)
        p_value = _sign_flip_p_value(sums, seed)
    return Difference(mean, low, high, p_value, n)


def set_interval(
    statistic: Statistic,
    features: np.ndarray,
    clusters: Sequence[Any] | np.ndarray,
    *,
    level: float = 0.95,
    groups: int = GROUPS,
    seed: int = SEED,
) -> Interval:
    """A set metric (FVD, IS, recall, ...) of features [n, D] with a delete-a-group jackknife interval.

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
    """statistic(features) - statistic(baseline_features), both [n, D], paired by row.

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
            p_value = float(2 * scipy.stats.t.sf(abs(observed) / error, len(replicates) - 1))
    return Difference(observed, low, high, p_value, len(features))


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's adjusted p-values [m]: compare them with the level of the family. A nan (not tested) stays nan."""
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p_values, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def n_to_tell(n: int, half_width: float, margin: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """About how many pairs would tell a difference of `margin` from none, if n of them gave +- half_width.

    At that n an interval around a true difference of zero lies within +-margin with probability `power`.
    Infinite for a margin of 0.
    """
    if margin <= 0:
        return math.inf
    z = scipy.stats.norm.ppf(0.5 + level / 2)
    error = half_width / z * (z + scipy.stats.norm.ppf(0.5 + power / 2))
    return max(n, math.ceil(n * (error / margin) ** 2))


def _codes(clusters: Sequence[Any] | np.ndarray, n: int) -> np.ndarray:
    if len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} cluster names")
    names = {name: code for code, name in enumerate(dict.fromkeys(clusters))}
    return np.fromiter((names[c] for c in clusters), dtype=np.intp, count=n)


def _zero_one(values: np.ndarray) -> bool:
    return bool(np.isin(values[~np.isnan(values)], (0, 1)).all())


def _cluster_sums(values: np.ndarray, clusters: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the defined values of each cluster that has any."""
    codes = _codes(clusters, len(values))
    defined = ~np.isnan(values)
    counts = np.bincount(codes[defined])
    sums = np.bincount(codes[defined], weights=values[defined])
    return sums[counts > 0], counts[counts > 0]


def _bootstrap_interval(sums: np.ndarray, counts: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    groups = len(sums)
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for part in _chunks(RESAMPLES, groups):
        chosen = rng.integers(groups, size=(part.stop - part.start, groups))
        means[part] = sums[chosen].sum(axis=1) / counts[chosen].sum(axis=1)
    t = scipy.stats.t.ppf(0.5 + level / 2, groups - 1)
    tail = scipy.stats.norm.cdf(-math.sqrt(groups / (groups - 1)) * t)
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def _sign_flip_p_value(sums: np.ndarray, seed: int) -> float:
    groups, observed = len(sums), abs(sums.sum())
    reached = observed - 1e-9 * np.abs(sums).sum()  # ties count, whatever the order of summation
    if 2**groups <= SIGN_FLIPS + 1:
        bits = (np.arange(2**groups)[:, None] >> np.arange(groups)) & 1
        return float((np.abs((1 - 2 * bits) @ sums) >= reached).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for part in _chunks(SIGN_FLIPS, groups):
        flips = rng.integers(2, size=(part.stop - part.start, groups), dtype=np.int8)
        hits += int((np.abs(sums.sum() - 2 * (flips @ sums)) >= reached).sum())
    return (1 + hits) / (1 + SIGN_FLIPS)


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
    codes = _codes(clusters, len(features))
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
    """Row indices that stay, for each group in turn; nothing where there is one cluster."""
    codes = _codes(clusters, n)
    names = int(codes.max()) + 1 if n else 0
    dealt = np.arange(names) % min(groups, names) if names else np.empty(0, dtype=np.intp)
    np.random.default_rng(seed).shuffle(dealt)
    if names >= 2:
        for group in range(min(groups, names)):
            yield np.flatnonzero(dealt[codes] != group)


def _jackknife_error(replicates: Sequence[float]) -> float:
    return math.sqrt((len(replicates) - 1) * float(np.var(replicates)))


def _jackknife(value: float, replicates: Sequence[float], level: float) -> tuple[float, float]:
    if len(replicates) < 2:
        return math.nan, math.nan
    half = float(scipy.stats.t.ppf(0.5 + level / 2, len(replicates) - 1)) * _jackknife_error(replicates)
    return value - half, value + half


def _finite(features: np.ndarray) -> np.ndarray:
    bad = int((~np.isfinite(features).all(axis=1)).sum())
    if bad:
        raise StgEvalError(f"features of {bad} of {len(features)} clips are not finite; delete and score those again")
    return features


def _chunks(total: int, width: int) -> Iterator[slice]:
    """Slices of about four million numbers: bounded memory for any number of clusters."""
    step = max(1, 4_000_000 // max(width, 1))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))
