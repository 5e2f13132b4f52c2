"""The plan against a brute-force simulation with the analysis that the study really uses."""

from __future__ import annotations

import numpy as np
import pytest

from stg_eval import statistics
from stg_eval.rating import power


@pytest.mark.parametrize(("cases", "raters", "each", "difference"), [(20, 5, 20, 0.3), (40, 6, 20, 0.25)])
def test_the_plan_is_within_two_points_of_brute_force(cases, raters, each, difference) -> None:
    planned = power.power(cases, raters, each, difference)
    seen = np.zeros((raters, cases), bool)
    for rater, hand in enumerate(power.deal(cases, raters, each, 0)):
        seen[rater, [case for case, _ in hand]] = True
    rng = np.random.default_rng(7)
    who = np.nonzero(seen)
    studies = power.simulate(rng, 2000, seen, power.latent_shift(difference))
    hits = 0
    for study in studies:
        sums = np.bincount(who[1], (study[1] - study[0])[who])
        hits += statistics.paired_mean_difference(sums, np.zeros(len(sums)), range(len(sums))).p_value < 0.05
    assert planned.power == pytest.approx(hits / len(studies), abs=0.02)


def test_a_study_without_a_difference_finds_one_in_a_twentieth() -> None:
    assert power.power(30, 7, 30, 0.0).power == pytest.approx(0.05, abs=0.012)


def test_the_shift_makes_the_difference_that_was_asked_for() -> None:
    ratings = power.simulate(np.random.default_rng(0), 4000, np.ones((5, 20), bool), power.latent_shift(0.4))
    assert (ratings[:, 1] - ratings[:, 0]).mean() == pytest.approx(0.4, abs=0.01)


def test_more_raters_need_fewer_cases() -> None:
    found = power.plan(0.4)
    assert all(p.power >= 0.8 for p in found)
    assert [p.num_cases for p in found] == sorted((p.num_cases for p in found), reverse=True)
