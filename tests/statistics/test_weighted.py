"""Weighted sums of means: the value is the formula's, the interval that of a plain loop, one part alone is a mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.statistics import (
    mean_interval,
    paired_mean_difference,
    paired_weighted_difference,
    weighted_interval,
)


def clips(seed: int, cases: int = 40, samples: int = 5) -> tuple[np.ndarray, list[int]]:
    """Scores [n, 3] with an effect of the case; the last two parts score one half of the cases each."""
    rng = np.random.default_rng(seed)
    names = np.repeat(np.arange(cases), samples)
    values = rng.normal(size=(cases, 3))[names] + 0.5 * rng.normal(size=(cases * samples, 3))
    values[names < cases // 2, 1] = np.nan
    values[names >= cases // 2, 2] = np.nan
    return values, names.tolist()


def test_value_is_the_sum_of_weighted_means_and_n_counts_clips() -> None:
    values, names = clips(0)
    values[:3] = np.nan
    found = weighted_interval(values, (0.5, 0.3, 2.0), names)
    assert found.value == pytest.approx(np.nanmean(values, axis=0) @ [0.5, 0.3, 2.0], rel=1e-12)
    assert found.n == 197
    assert found.low < found.value < found.high


def test_interval_is_that_of_a_loop_over_resampled_cases() -> None:
    values, names = clips(1)
    weights, rng = np.array((0.5, 0.3, 2.0)), np.random.default_rng(7)
    by_case = [values[np.array(names) == case] for case in range(40)]
    totals = [
        np.nanmean(np.concatenate([by_case[c] for c in rng.integers(40, size=40)]), axis=0) @ weights
        for _ in range(3000)
    ]
    found = weighted_interval(values, weights, names)
    spread = np.std(totals)
    assert found.high - found.low == pytest.approx(2 * 2.15 * spread, rel=0.08)  # widened: t(19) and 20 / 19 clusters


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_one_part_of_weight_one_is_the_mean_of_clips(seed: int) -> None:
    values, names = clips(seed, cases=12, samples=2)
    other = values + np.random.default_rng(seed + 1).normal(0.1, 0.3, values.shape)
    whole, one = mean_interval(values[:, 0], names), weighted_interval(values[:, :1], (1.0,), names)
    assert (one.value, one.n) == (pytest.approx(whole.value), whole.n)
    assert one.high - one.low == pytest.approx(whole.high - whole.low, rel=0.15)
    plain = paired_mean_difference(other[:, 0], values[:, 0], names)
    found = paired_weighted_difference(other[:, :1], values[:, :1], (1.0,), names)
    assert (found.difference, found.p_value, found.n) == (pytest.approx(plain.difference), plain.p_value, plain.n)


def test_a_difference_is_paired_so_what_the_cases_share_drops_out() -> None:
    values, names = clips(2)
    found = paired_weighted_difference(values + 0.01, values, (0.5, 0.3, 2.0), names)
    assert found.difference == pytest.approx(0.028)
    assert (found.low, found.high) == (pytest.approx(0.028), pytest.approx(0.028))
    assert found.p_value < 0.001


def test_part_without_values_or_with_one_case_gives_no_value_or_no_interval() -> None:
    values, names = clips(3)
    gone = values.copy()
    gone[:, 1] = np.nan
    assert np.isnan(weighted_interval(gone, (1, 1, 1), names).value)
    assert np.isnan(paired_weighted_difference(gone, values, (1, 1, 1), names).difference)
    values[5:, 2] = np.nan
    found = weighted_interval(values, (1, 1, 1), names)
    assert np.isfinite(found.value)
    assert np.isnan(found.low)
