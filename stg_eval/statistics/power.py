"""Estimates how many pairs it takes to tell a difference."""

from __future__ import annotations

import math

import scipy  # brings in scipy.stats, which is slow to import, when it is first used


def n_to_tell(n: int, half_width: float, margin: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Estimate how many pairs would tell a difference of `margin` from none, if n of them gave +- half_width.

    At that n an interval around a true difference of zero lies within +-margin with probability `power`.
    Infinite for a margin of 0.
    """
    if margin <= 0:
        return math.inf
    z = scipy.stats.norm.ppf(0.5 + level / 2)
    error = half_width / z * (z + scipy.stats.norm.ppf(0.5 + power / 2))
    return max(n, math.ceil(n * (error / margin) ** 2))
