"""Intervals and tests for scores that come in pairs (same case, same seed) and in clusters (same prompt).

Everything is seeded, so equal input gives equal output. A nan score (undefined for that clip) takes no part, together
with its partner in a pair; `n` counts what took part.
"""

from stg_eval.statistics.holm import holm
from stg_eval.statistics.means import mean_interval, paired_mean_difference
from stg_eval.statistics.nouns import Difference, Interval
from stg_eval.statistics.power import n_to_tell
from stg_eval.statistics.sets import Statistic, paired_set_difference, set_interval
from stg_eval.statistics.weighted import paired_weighted_difference, weighted_interval

__all__ = [
    "Difference",
    "Interval",
    "Statistic",
    "holm",
    "mean_interval",
    "n_to_tell",
    "paired_mean_difference",
    "paired_set_difference",
    "paired_weighted_difference",
    "set_interval",
    "weighted_interval",
]
