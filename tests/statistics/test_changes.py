"""Changes in a history of runs: how often a planted one is found, how often one that is not there."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from stg_eval.statistics import n_to_tell
from stg_eval.statistics.changes import by_intervals, changes, paired

CASES, TRIALS = 48, 200
NOISE = 1.0


def margin(cases: int) -> float:
    """The smallest difference that the gate resolves with so many cases: `n_to_tell` says they are just enough."""
    half = scipy.stats.t.ppf(0.975, cases - 1) * NOISE * (2 / cases) ** 0.5
    return next(m for m in np.linspace(half, 3 * half, 2000) if n_to_tell(cases, half, m) <= cases)


def history(rng: np.random.Generator, runs: int) -> np.ndarray:
    """Scores [cases, runs]: what a case always has, which is much, and what a run adds."""
    return rng.normal(0, 5, (CASES, 1)) + rng.normal(0, NOISE, (CASES, runs))


def test_the_smallest_step_that_the_gate_resolves_is_found_within_three_runs() -> None:
    rng, least, found = np.random.default_rng(0), margin(CASES), 0
    for _ in range(TRIALS):
        before = int(rng.integers(5, 20))
        scores = history(rng, before + 3)
        scores[:, before:] -= least
        made = list(changes(paired(scores), before + 3, lambda _: least))
        found += any(before <= one.found < before + 3 and abs(one.at - before) <= 2 for one in made)
    assert found >= 0.95 * TRIALS


def test_fifty_runs_without_a_change_raise_a_false_alarm_in_one_of_twenty_at_most() -> None:
    rng = np.random.default_rng(1)  # every difference matters here: the test alone holds alarms back
    alarms = sum(any(changes(paired(history(rng, 50)), 50, lambda _: 0.0)) for _ in range(TRIALS))
    assert scipy.stats.binomtest(alarms, TRIALS, 0.05, alternative="greater").pvalue > 0.01


def test_a_change_says_where_it_lies_and_how_large_it_is() -> None:
    scores = history(np.random.default_rng(2), 30)
    scores[:, 12:] += 4
    scores[:, 20:] -= 9
    first, second = changes(paired(scores), 30, lambda _: 0.5)
    assert (first.at, first.found, second.at, second.found) == (12, 12, 20, 20)
    assert first.low < 4 < first.high
    assert second.low < -9 < second.high


def test_the_same_clips_run_after_run_are_no_change_and_small_sure_ones_do_not_matter() -> None:
    scores = np.repeat(history(np.random.default_rng(3), 1), 20, axis=1)
    assert not list(changes(paired(scores), 20, lambda _: 0.0))
    scores[:, 10:] += 0.01  # all cases alike: as sure as can be
    assert not list(changes(paired(scores), 20, lambda _: 0.02))
    assert [one.at for one in changes(paired(scores), 20, lambda _: 0.005)] == [10]


def test_runs_are_compared_on_the_cases_that_all_of_them_have() -> None:
    scores = history(np.random.default_rng(4), 8)
    scores[:20, 3] = np.nan
    scores[:, 5:] += 3
    assert [one.at for one in changes(paired(scores), 8, lambda _: 1.0)] == [5]
    scores[1:, 3] = np.nan
    assert not list(changes(paired(scores), 8, lambda _: 1.0)), "one case says nothing"


def test_scores_of_a_set_are_compared_by_their_intervals() -> None:
    values = np.r_[np.full(6, 100.0), np.full(6, 80.0)]
    (found,) = changes(by_intervals(values, np.full(12, 2.0), 23), 12, lambda before: 0.05 * before)
    assert (found.at, found.difference, found.before) == (6, -20.0, 100.0)
    assert not list(changes(by_intervals(values, np.full(12, 9.0), 23), 12, lambda before: 0.05 * before))


@pytest.mark.parametrize("histories", [1, 8])
def test_more_histories_that_are_watched_ask_for_more(histories: int) -> None:
    scores = history(np.random.default_rng(5), 7)
    scores[:, 6] += 0.85
    assert bool(list(changes(paired(scores), 7, lambda _: 0.1, histories=histories))) == (histories == 1)
