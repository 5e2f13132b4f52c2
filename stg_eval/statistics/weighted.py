"""Intervals and tests of a weighted sum of means, each over clips of its own: a total over a benchmark's dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy  # brings in scipy.special, which is slow to import, when it is first used
from numpy.typing import ArrayLike

from stg_eval.statistics.means import RESAMPLES, chunks, sign_flip_p_value
from stg_eval.statistics.nouns import SEED, Difference, Interval, cluster_codes


def weighted_interval(
    values: ArrayLike,
    weights: Sequence[float],
    clusters: Sequence[Any] | np.ndarray,
    *,
    level: float = 0.95,
    seed: int = SEED,
) -> Interval:
    """Sum over parts of weight times mean, with a bootstrap interval that resamples whole clusters (prompts).

    A resample draws the clusters of all parts together, so a prompt that several parts score stands in all of them. The
    percentiles are widened for few clusters as in `mean_interval`, by the part that has the fewest.

    Args:
        values: [n, parts], nan where a part has no value for the clip.
        weights: [parts].
        clusters: [n] names.

    Returns:
        Its n counts the clips that any part scores. All nan where a part has no value at all.
    """
    sums, counts, n = _cluster_sums(values, clusters)
    if not (total := counts.sum(axis=0)).all():
        return Interval(math.nan, math.nan, math.nan, n)
    value = float(sums.sum(axis=0) / total @ np.asarray(weights))
    return Interval(value, *_bootstrap(sums, counts, weights, level, seed), n)


def paired_weighted_difference(
    values: ArrayLike,
    baseline_values: ArrayLike,
    weights: Sequence[float],
    clusters: Sequence[Any] | np.ndarray,
    *,
    level: float = 0.95,
    seed: int = SEED,
) -> Difference:
    """As `weighted_interval`, of values - baseline_values (both [n, parts], paired by position), with a p-value that
    swaps the labels of whole clusters, all parts at once."""
    differences = np.asarray(values, np.float64) - np.asarray(baseline_values, np.float64)
    sums, counts, n = _cluster_sums(differences, clusters)
    if not (total := counts.sum(axis=0)).all():
        return Difference(math.nan, math.nan, math.nan, math.nan, n)
    of_clusters = sums / total @ np.asarray(weights)
    low, high = _bootstrap(sums, counts, weights, level, seed)
    p_value = math.nan if math.isnan(low) else sign_flip_p_value(of_clusters, seed)
    return Difference(float(of_clusters.sum()), low, high, p_value, n)


def _cluster_sums(values: ArrayLike, clusters: Sequence[Any] | np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return sums and numbers of the defined values, both [clusters, parts]; how many clips have any."""
    values = np.asarray(values, np.float64)
    defined = ~np.isnan(values)
    codes = cluster_codes(clusters, len(values))
    groups = int(codes.max(initial=-1)) + 1
    sums, counts = np.zeros((2, groups, values.shape[1]))
    np.add.at(sums, codes, np.where(defined, values, 0.0))
    np.add.at(counts, codes, defined)
    return sums, counts, int(defined.any(axis=1).sum())


def _bootstrap(
    sums: np.ndarray, counts: np.ndarray, weights: Sequence[float], level: float, seed: int
) -> tuple[float, float]:
    fewest = int((counts > 0).sum(axis=0).min())
    if fewest < 2:
        return math.nan, math.nan
    groups, rng = len(sums), np.random.default_rng(seed)
    totals = np.empty(RESAMPLES)
    for part in chunks(RESAMPLES, groups):
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), size=part.stop - part.start)
        with np.errstate(invalid="ignore"):  # a resample may miss all clusters of a part that has few: nan, not counted
            totals[part] = (drawn @ sums) / (drawn @ counts) @ np.asarray(weights)
    t = scipy.special.stdtrit(fewest - 1, 0.5 + level / 2)
    tail = scipy.special.ndtr(-math.sqrt(fewest / (fewest - 1)) * t)
    low, high = np.nanquantile(totals, (tail, 1 - tail))
    return float(low), float(high)
