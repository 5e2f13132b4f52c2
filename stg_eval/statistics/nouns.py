"""Defines what every statistic gives back, and turns names of clusters into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SEED = 0


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


def cluster_codes(clusters: Sequence[Any] | np.ndarray, n: int) -> np.ndarray:
    """Number the clusters in the order in which they appear, int [n]. Raises ValueError for other than n names."""
    if len(clusters) != n:
        raise ValueError(f"{n} values but {len(clusters)} cluster names")
    names = {name: code for code, name in enumerate(dict.fromkeys(clusters))}
    return np.fromiter((names[c] for c in clusters), dtype=np.intp, count=n)
