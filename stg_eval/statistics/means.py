"""Computes intervals and tests of means of clip scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy  # brings in scipy.special when it is first used; scipy.stats, with the same functions, takes a second
from numpy.typing import ArrayLike

from stg_eval.statistics.nouns import SEED, Difference, Interval, cluster_codes
from stg_eval.statistics.proportions import difference_interval, mcnemar, share_interval

RESAMPLES = 4000
"""Bootstrap resamples of an interval."""
SIGN_FLIPS = 9999
"""Random label swaps of a paired test of means: the smallest p-value is 1e-4."""


def mean_interval(
    values: ArrayLike, clusters: Sequence[Any] | np.ndarray, *, level: float = 0.95, seed: int = SEED
) -> Interval:
    """Compute the mean of values [n] and a bootstrap interval that resamples whole clusters (the clips of a prompt).

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
    """Compute the mean of values - baseline_values (both [n], paired by position), its clustered interval and p-value.

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
        p_value = mcnemar(values[defined], baseline_values[defined]) if n == groups else sign_flip_p_value(sums, seed)
    else:
        low, high = _bootstrap_interval(sums, counts, level, seed)
        p_value = sign_flip_p_value(sums, seed)
    return Difference(mean, low, high, p_value, n)


def _zero_one(values: np.ndarray) -> bool:
    return bool(np.isin(values[~np.isnan(values)], (0, 1)).all())


def _cluster_sums(values: np.ndarray, clusters: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the defined values of each cluster that has any."""
    codes = cluster_codes(clusters, len(values))
    defined = ~np.isnan(values)
    counts = np.bincount(codes[defined])
    sums = np.bincount(codes[defined], weights=values[defined])
    return sums[counts > 0], counts[counts > 0]


def _bootstrap_interval(sums: np.ndarray, counts: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    groups = len(sums)
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    equal = bool((counts == counts[0]).all())
    for part in chunks(RESAMPLES, groups, 250_000):  # they stay in the processor's cache
        chosen = rng.integers(groups, size=(part.stop - part.start, groups))
        drawn = counts[0] * groups if equal else counts[chosen].sum(axis=1)
        means[part] = sums[chosen].sum(axis=1) / drawn
    t = scipy.special.stdtrit(groups - 1, 0.5 + level / 2)
    tail = scipy.special.ndtr(-math.sqrt(groups / (groups - 1)) * t)
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


def sign_flip_p_value(sums: np.ndarray, seed: int) -> float:
    """How often swapping the labels of clusters (a flip of the sign of their sums) reaches the sum that was found."""
    groups, observed = len(sums), abs(sums.sum())
    reached = observed - 1e-9 * np.abs(sums).sum()  # ties count, whatever the order of summation
    if 2**groups <= SIGN_FLIPS + 1:
        bits = (np.arange(2**groups)[:, None] >> np.arange(groups)) & 1
        return float((np.abs((1 - 2 * bits) @ sums) >= reached).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for part in chunks(SIGN_FLIPS, groups):
        # The product makes them 8 times as large. Fours: four are drawn together, and what is left of the last is lost.
        for rows in chunks(part.stop - part.start, groups, 400_000, multiple=4):
            flips = rng.integers(2, size=(rows.stop - rows.start, groups), dtype=np.int8)
            hits += int((np.abs(sums.sum() - 2 * (flips @ sums)) >= reached).sum())
    return (1 + hits) / (1 + SIGN_FLIPS)


def chunks(total: int, width: int, numbers: int = 4_000_000, multiple: int = 1) -> Iterator[slice]:
    """Cut the work into slices of about so many numbers, so that memory is bounded for any number of clusters."""
    step = max(1, numbers // max(width, 1) // multiple) * multiple
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))
