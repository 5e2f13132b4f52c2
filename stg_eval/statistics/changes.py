"""Finds in a history of runs where a score changed: a sequential test, looked at after every run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy  # brings in scipy.stats, which is slow to import, when it is first used

LEVEL, PER_RUNS = 0.05, 50
"""Chance of any false alarm in 50 runs of a history without a change."""
LOOK_BACK = 3
"""A change is looked for before the last one, two and three runs: one that three runs do not show is none yet."""


class Contrast(NamedTuple):
    """The mean of later runs less that of earlier runs, its standard error, and how surely it is none."""

    difference: float
    error: float
    degrees: int
    p_value: float
    before: float
    """Mean of the earlier runs."""


class Change(NamedTuple):
    """A change between two runs of a history, counted from 0."""

    at: int
    """The first run after it."""
    found: int
    """The run that showed it."""
    before: float
    difference: float
    low: float
    high: float
    p_value: float


Contrasting = Callable[[slice, slice], Contrast]
"""Earlier runs, later runs -> their contrast."""


def paired(scores: np.ndarray) -> Contrasting:
    """Contrast runs by their scores [clusters, runs] of the same cases, nan where a run lacks one: a t test over the
    cases that all of them have. What a case always adds falls out; so do runs that made the very same clips.

    Where the noise is skewed, one run less the mean of many is too, and Student's t raises alarms in its lower tail:
    the statistic is transformed as in Hall (1992), "On the Removal of Skewness by Transformation".
    """

    def contrast(earlier: slice, later: slice) -> Contrast:
        known = scores[~np.isnan(scores[:, earlier.start : later.stop]).any(axis=1)]
        groups = len(known)
        if groups < 2:
            return Contrast(math.nan, math.nan, 1, math.nan, math.nan)
        before = known[:, earlier].mean(axis=1)
        of_cases = known[:, later].mean(axis=1) - before
        difference = float(of_cases.mean())
        error = float(of_cases.std(ddof=1)) / math.sqrt(groups)
        p_value = max(_p_value(difference, error, groups - 1, _skewness(of_cases)), 2.0 ** (1 - groups))
        return Contrast(difference, error, groups - 1, p_value, float(before.mean()))

    return contrast


def by_intervals(values: np.ndarray, errors: np.ndarray, degrees: int) -> Contrasting:
    """Contrast runs by their values [runs] and standard errors, as if they were independent: for a score of a whole set
    of clips. Runs with the same seeds share most of that error, so small changes are seen late or never."""

    def contrast(earlier: slice, later: slice) -> Contrast:
        before, after = values[earlier].mean(), values[later].mean()
        variances = [(errors[part] ** 2).sum() / len(errors[part]) ** 2 for part in (earlier, later)]
        error = math.sqrt(sum(variances))
        difference = float(after - before)
        return Contrast(difference, error, degrees, _p_value(difference, error, degrees), float(before))

    return contrast


def changes(
    contrast: Contrasting, num_runs: int, margin: Callable[[float], float], *, histories: int = 1
) -> Iterator[Change]:
    """Yield the changes of a history, in order; each begins a new level that later runs are compared with.

    After every run, the runs since the last change are split before the last one, two and three, and the surest of
    these splits is a change under the gate's two conditions: significant, and the 95 % interval reaches past the
    smallest difference that matters. Bonferroni over splits, over 50 runs and over the histories that are watched
    together keeps the chance of any false alarm in 50 runs at 5 %; it grows in proportion with longer histories.

    Args:
        margin: mean of the earlier runs -> the smallest difference that matters.
        histories: how many metrics and variants of the same runs are looked at.
    """
    level = LEVEL / PER_RUNS / LOOK_BACK / histories
    start = 0
    for found in range(1, num_runs):
        splits = range(max(start + 1, found + 1 - LOOK_BACK), found + 1)
        tried = [(contrast(slice(start, at), slice(at, found + 1)), at) for at in splits]
        known = [(one, at) for one, at in tried if not math.isnan(one.p_value)]
        if not known:
            continue
        best, at = min(known, key=lambda pair: (pair[0].p_value, -abs(pair[0].difference)))
        half = float(scipy.stats.t.ppf(0.975, best.degrees)) * best.error
        low, high = best.difference - half, best.difference + half
        limit = margin(best.before)
        if best.p_value <= level and not (-limit <= low and high <= limit):
            yield Change(at, found, best.before, best.difference, low, high, best.p_value)
            start = at


def _skewness(values: np.ndarray) -> float:
    """Return the skewness over the root of n."""
    centred = values - values.mean()
    spread = float((centred**2).mean())
    return float((centred**3).mean()) / spread**1.5 / math.sqrt(len(values)) if spread else 0.0


def _p_value(difference: float, error: float, degrees: int, skewness: float = 0.0) -> float:
    if error == 0:
        return float(difference == 0)
    t = difference / error
    t += skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6
    return float(2 * scipy.stats.t.sf(abs(t), degrees))
