"""How many raters and clips a difference needs: power by simulation on the study's own design."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy

from stg_eval.rating.design import deal

SPREADS = {"case": 0.5, "rater": 0.4, "interaction": 0.5, "residual": 0.8}
"""Standard deviations of a rating on the scale 1-5: between cases, between raters, of a case's own difference between
variants, and of what is left. Assumptions in the range of published five-point studies; the plan prints them."""
LEVEL = 0.05
STUDIES = 10000


class Power(NamedTuple):
    """What a design can tell."""

    num_cases: int
    num_raters: int
    cases_each: int
    difference: float
    power: float
    """Share of simulated studies whose difference is significant at 5 %, two-sided."""


def power(num_cases: int, num_raters: int, cases_each: int, difference: float, *, seed: int = 0) -> Power:
    """Return the power of single clips on a 1-5 scale under two variants whose mean ratings differ by `difference`.

    A rating is a latent normal value rounded to 1..5 (SPREADS); the test is that of the analysis, on the differences of
    cases. The latent shift is set so that the ratings, which end at 1 and 5, differ by `difference` as asked.
    """
    seen = np.zeros((num_raters, num_cases), bool)
    for rater, hand in enumerate(deal(num_cases, num_raters, cases_each, seed)):
        seen[rater, [case for case, _ in hand]] = True
    rng = np.random.default_rng([seed, 4])
    shift = latent_shift(difference)
    hits = 0
    step = max(1, 2_000_000 // (num_raters * num_cases))
    for start in range(0, STUDIES, step):
        n = min(step, STUDIES - start)
        hits += int((_p_values(simulate(rng, n, seen, shift), seen) < LEVEL).sum())
    return Power(num_cases, num_raters, cases_each, difference, hits / STUDIES)


def simulate(rng: np.random.Generator, studies: int, seen: np.ndarray, shift: float) -> np.ndarray:
    """Return ratings int [studies, 2 variants, raters, cases] of studies in which variant 1 lies `shift` higher; what a
    rater does not see is drawn too, and `seen` bool [raters, cases] says what counts."""
    raters, cases = seen.shape
    mean = (
        3
        + rng.normal(0, SPREADS["case"], (studies, 1, 1, cases))
        + rng.normal(0, SPREADS["rater"], (studies, 1, raters, 1))
    )
    own = rng.normal(0, SPREADS["interaction"] / math.sqrt(2), (studies, 2, 1, cases))
    noise = rng.normal(0, SPREADS["residual"], (studies, 2, raters, cases))
    latent = mean + own + noise + np.array([-0.5, 0.5])[None, :, None, None] * shift
    out: np.ndarray = np.clip(np.rint(latent), 1, 5)
    return out


def latent_shift(difference: float) -> float:
    """Return the shift of the latent values that makes mean ratings differ by `difference`, by bisection."""
    spread = math.sqrt(sum(s * s for s in SPREADS.values()) - SPREADS["interaction"] ** 2 / 2)
    edges = np.arange(1.5, 5)

    def mean(centre: float) -> float:
        return float(1 + scipy.stats.norm.sf(edges, centre, spread).sum())

    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(3 + middle / 2) - mean(3 - middle / 2) < difference else (low, middle)
    return (low + high) / 2


def _p_values(ratings: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return two-sided p-values [studies] of `statistics.paired_mean_difference`, which swaps the labels of whole
    cases.

    The sum of the differences under random signs is nearly normal; it moves in steps of two and a tie counts, hence the
    correction by one.
    """
    sums = ((ratings[:, 1] - ratings[:, 0]) * seen).sum(1)
    spread = np.sqrt((sums**2).sum(1))
    out: np.ndarray = 2 * scipy.stats.norm.sf((np.abs(sums.sum(1)) - 1) / np.where(spread > 0, spread, np.inf))
    return out


def plan(difference: float, *, wanted: float = 0.8, seed: int = 0) -> list[Power]:
    """For 3, 5, 7, 10 and 15 raters the fewest cases (each seen by all raters) that reach the wanted power."""
    out = []
    for raters in (3, 5, 7, 10, 15):
        low, high = 3, 8
        while power(high, raters, high, difference, seed=seed).power < wanted and high < 4096:
            low, high = high, 2 * high
        while high - low > max(1, low // 20):
            middle = (low + high) // 2
            reached = power(middle, raters, middle, difference, seed=seed).power >= wanted
            low, high = (low, middle) if reached else (middle, high)
        out.append(power(high, raters, high, difference, seed=seed))
    return out
