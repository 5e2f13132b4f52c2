"""Ranks of a leaderboard, against scipy's own tests and a simulation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from stg_eval.statistics.ranks import p_values_of_intervals, paired_p_values, rank_ranges, reliably_better


def test_every_pair_has_the_p_value_of_a_paired_t_test() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 5)) + np.arange(5) * 0.2
    found = paired_p_values(scores, range(40))
    for i in range(5):
        for j in range(5):
            expected = 1.0 if i == j else scipy.stats.ttest_rel(scores[:, i], scores[:, j]).pvalue
            assert found[i, j] == pytest.approx(expected)


def test_clips_of_one_prompt_count_as_one_draw() -> None:
    scores = np.random.default_rng(1).normal(size=(12, 2))
    repeated = np.repeat(scores, 7, axis=0)
    assert paired_p_values(repeated, np.repeat(np.arange(12), 7)) == pytest.approx(paired_p_values(scores, range(12)))


def test_few_prompts_are_never_sure() -> None:
    scores = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert paired_p_values(scores, range(3))[0, 1] == 0.25
    assert np.isnan(paired_p_values(scores, [0, 0, 0])).all()


def test_intervals_give_the_p_value_of_independent_samples() -> None:
    half = scipy.stats.t.ppf(0.975, 23) * np.array([1.0, 2.0])
    values = np.array([5.0, 9.0])
    found = p_values_of_intervals(values, values - half, values + half, 23)
    assert found[0, 1] == pytest.approx(2 * scipy.stats.t.sf(4 / 5**0.5, 23))


def test_rank_ranges_hold_together_with_the_stated_confidence() -> None:
    """Six rows, two of them equal, in 400 experiments: all true ranks lie within their ranges in 95 % or more."""
    rng = np.random.default_rng(2)
    truth = np.array([0.0, 0.0, 0.1, 0.3, 0.6, 1.0])
    first = [1 + int((truth > t).sum()) for t in truth]
    last = [6 - int((truth < t).sum()) for t in truth]
    held = told = 0
    for _ in range(400):
        scores = truth + rng.normal(size=(30, 1)) + rng.normal(0, 0.4, (30, 6))
        beaten = reliably_better(scores.mean(axis=0), paired_p_values(scores, range(30)), higher_is_better=True)
        ranges = rank_ranges(beaten)
        # An equal pair may stand in either order: its range must leave both.
        held += all(low <= a and b <= high for (low, high), a, b in zip(ranges, first, last, strict=True))
        told += ranges[5] == (1, 1)
    assert held >= 0.93 * 400  # 380 expected at least, less two standard errors
    assert told > 300


def test_lower_is_better_turns_the_table_round() -> None:
    p_values = np.full((2, 2), 1e-6)
    assert reliably_better([1.0, 2.0], p_values, higher_is_better=True).tolist() == [[False, True], [False, False]]
    assert reliably_better([1.0, 2.0], p_values, higher_is_better=False).tolist() == [[False, False], [True, False]]
