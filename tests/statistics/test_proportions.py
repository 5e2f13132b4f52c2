"""0/1 scores: exact tests against their definition, intervals by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stg_eval.statistics import mean_interval, paired_mean_difference
from stg_eval.statistics.proportions import difference_interval, mcnemar, share_interval


def test_all_clips_dynamic_still_has_an_interval_and_it_is_clopper_pearsons() -> None:
    hits = np.r_[np.ones(87), np.zeros(13)]
    for values in (hits, np.ones(100)):
        exact = stats.binomtest(int(values.sum()), 100).proportion_ci(method="exact")
        interval = mean_interval(values, np.arange(100))
        # The effective sample size uses n - 1 for the variance, hence the small slack.
        assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=0.002)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_interval_of_a_share_covers_the_truth_95_times_in_100_with_four_prompts(share: float) -> None:
    """Four prompts of 25 clips: their variance is hardly known, and without a correction 87 in 100 are covered."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        hits = rng.binomial(25, rng.beta(4 * share, 4 * (1 - share), size=4))
        low, high = share_interval(hits, np.full(4, 25), 0.95)
        covered += low <= share <= high
    assert 0.93 <= covered / 1000 <= 0.975


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_mcnemar_is_the_sign_flip_test_of_binary_pairs(pairs: list[tuple[bool, bool]]) -> None:
    values, baseline = np.array(pairs, dtype=float).T
    discordant = values != baseline
    wins, m = int((values > baseline).sum()), int(discordant.sum())
    extreme = sum(math.comb(m, k) for k in range(m + 1) if abs(2 * k - m) >= abs(2 * wins - m))
    assert mcnemar(values, baseline) == pytest.approx(extreme / 2**m)
    assert paired_mean_difference(values, baseline, np.arange(len(pairs))).p_value == mcnemar(values, baseline)


@pytest.mark.parametrize(("groups", "a_group"), [(2, 1), (2, 50), (100, 1)])
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_equal_pairs_rule_out_only_what_so_few_clusters_can(groups: int, a_group: int, score: float) -> None:
    """No discordant pair: wins and losses may each be as likely as what this many clusters miss in 2.5 % of cases."""
    values = np.full(groups * a_group, score)
    found = paired_mean_difference(values, values, np.repeat(np.arange(groups), a_group))
    most = 1 - 0.025 ** (1 / groups)
    assert found == (0.0, pytest.approx(-most), pytest.approx(most), 1.0, groups * a_group)


@pytest.mark.parametrize(("wins", "losses"), [(0.02, 0.02), (0.1, 0.0), (0.2, 0.02), (0.3, 0.3)])
@pytest.mark.parametrize(("groups", "a_group"), [(30, 1), (100, 1), (20, 10)])
def test_interval_of_a_paired_difference_covers_the_truth(
    wins: float, losses: float, groups: int, a_group: int
) -> None:
    """Pairs won, lost and tied; where a cluster has several, its own shares of them scatter widely."""
    rng = np.random.default_rng(2)
    shares = np.array([wins, losses, 1 - wins - losses])
    counts = np.full(groups, a_group)
    covered = 0
    for _ in range(300):
        drawn = shares if a_group == 1 else rng.dirichlet(np.maximum(4 * shares, 1e-9), size=groups)
        won, lost, _ = rng.multinomial(a_group, drawn, size=groups).T.astype(float)
        low, high = difference_interval(won, lost, counts, 0.95)
        covered += low - 1e-12 <= wins - losses <= high + 1e-12
    assert covered / 300 >= 0.925


def test_many_discordant_pairs_have_walds_interval() -> None:
    won, lost = np.repeat([1.0, 0, 0], [300, 200, 1500]), np.repeat([0, 1.0, 0], [300, 200, 1500])
    half = 1.96 * math.sqrt((0.25 - 0.05**2) / 2000)
    found = difference_interval(won, lost, np.ones(2000, int), 0.95)
    assert found == pytest.approx((0.05 - half, 0.05 + half), abs=0.002)
    assert difference_interval(lost, won, np.ones(2000, int), 0.95) == pytest.approx((-found[1], -found[0]))
