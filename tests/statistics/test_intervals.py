"""Statistics against independent oracles (scipy, brute force) and by simulation (coverage, false alarms)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from stg_eval.statistics import (
    holm,
    mean_interval,
    means,
    n_to_tell,
    paired_mean_difference,
    paired_set_difference,
    set_interval,
)
from stg_eval.types import StgEvalError

MEASURED = settings(max_examples=25, deadline=None)


def frechet(features: np.ndarray, reference: np.ndarray) -> float:
    """The textbook formula, with scipy's matrix square root."""
    mean, reference_mean = features.mean(0), reference.mean(0)
    cov, reference_cov = np.cov(features.T), np.cov(reference.T)
    root = linalg.sqrtm(cov @ reference_cov).real
    return float(((mean - reference_mean) ** 2).sum() + np.trace(cov + reference_cov - 2 * root))


def fast_frechet(features: np.ndarray, reference: np.ndarray) -> float:
    cov, reference_cov = np.cov(features.T), np.cov(reference.T)
    root = np.sqrt(np.abs(np.linalg.eigvals(cov @ reference_cov))).sum()
    gap = features.mean(0) - reference.mean(0)
    return float(gap @ gap + np.trace(cov) + np.trace(reference_cov) - 2 * root)


# Means


def test_cluster_bootstrap_agrees_with_a_plain_loop_over_resampled_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "RESAMPLES", 20000)
    rng = np.random.default_rng(1)
    clusters = rng.integers(12, size=80)
    values = rng.normal(size=80) + clusters / 4
    interval = mean_interval(values, clusters)
    loop = []
    names = np.unique(clusters)
    for _ in range(20000):
        loop.append(np.concatenate([values[clusters == c] for c in rng.choice(names, len(names))]).mean())
    tail = stats.norm.cdf(-math.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    assert (interval.low, interval.high) == pytest.approx(np.quantile(loop, (tail, 1 - tail)), abs=0.03)
    assert interval.value == pytest.approx(values.mean())


def test_one_clip_a_cluster_gives_students_interval_for_normal_scores() -> None:
    values = np.random.default_rng(2).normal(3, 2, size=200)
    low, high = stats.t.interval(0.95, 199, values.mean(), stats.sem(values))
    interval = mean_interval(values, np.arange(200))
    assert interval.low == pytest.approx(low, abs=0.03)
    assert interval.high == pytest.approx(high, abs=0.03)


@pytest.mark.parametrize(("clusters", "a_cluster"), [(10, 5), (40, 5), (200, 1)])
def test_mean_interval_covers_the_truth_95_times_in_100(
    clusters: int, a_cluster: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(means, "RESAMPLES", 500)
    rng = np.random.default_rng(3)
    names = np.repeat(np.arange(clusters), a_cluster)
    covered = 0
    for _ in range(600):
        values = rng.normal(size=clusters)[names] + rng.normal(size=len(names))
        interval = mean_interval(values, names)
        covered += interval.low <= 0 <= interval.high
    assert 0.92 <= covered / 600 <= 0.98


def test_ignoring_clusters_would_cover_far_less() -> None:
    """The reason for clusters: the same data taken as independent clips give an interval that is far too narrow."""
    rng = np.random.default_rng(4)
    names = np.repeat(np.arange(30), 10)
    values = rng.normal(size=30)[names] + 0.3 * rng.normal(size=300)
    clustered, naive = mean_interval(values, names), mean_interval(values, np.arange(300))
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


def test_order_of_clips_does_not_matter_much_and_equal_input_gives_equal_output() -> None:
    rng = np.random.default_rng(5)
    values, names = rng.normal(size=60), rng.integers(20, size=60)
    order = rng.permutation(60)
    assert mean_interval(values, names) == mean_interval(values, names)
    assert mean_interval(values[order], names[order]).low == pytest.approx(mean_interval(values, names).low, abs=0.03)


def test_undefined_scores_take_no_part_and_n_says_so() -> None:
    values = np.array([1.0, np.nan, 3.0, 5.0])
    interval = mean_interval(values, ["a", "a", "b", "c"])
    assert interval == mean_interval(values[[0, 2, 3]], ["a", "b", "c"])
    assert interval.n == 3
    difference = paired_mean_difference(values, [1.0, 1.0, np.nan, 1.0], ["a", "a", "b", "c"])
    assert (difference.n, difference.difference) == (2, 2.0)


def test_nothing_defined_and_a_single_cluster_have_no_interval() -> None:
    nothing = mean_interval([np.nan, np.nan], ["a", "b"])
    assert math.isnan(nothing.value)
    assert nothing.n == 0
    single = paired_mean_difference([1.0, 2.0], [0.0, 0.0], ["a", "a"])
    assert single.difference == 1.5
    assert math.isnan(single.low)
    assert math.isnan(single.p_value)


# Paired means


def test_sign_flips_agree_with_scipys_permutation_test_exact_and_sampled() -> None:
    rng = np.random.default_rng(6)
    for n in (9, 60):
        values, baseline = rng.normal(0.3, 1, size=n), np.zeros(n)
        oracle = stats.permutation_test(
            (values,), np.mean, permutation_type="samples", n_resamples=9999, rng=np.random.default_rng(0)
        )
        p_value = paired_mean_difference(values, baseline, np.arange(n)).p_value
        assert p_value == pytest.approx(oracle.pvalue, abs=1e-12 if n == 9 else 0.02)


def test_false_alarms_of_paired_means_are_5_in_100_and_intervals_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "RESAMPLES", 400)
    monkeypatch.setattr(means, "SIGN_FLIPS", 399)
    rng = np.random.default_rng(7)
    names = np.repeat(np.arange(25), 4)
    alarms = covered = 0
    for _ in range(800):
        shared = rng.normal(size=100)  # what pairing removes
        effect = rng.normal(size=25)[names]
        found = paired_mean_difference(shared + effect + rng.normal(size=100), shared + rng.normal(size=100), names)
        alarms += found.p_value <= 0.05
        covered += found.low <= 0 <= found.high
    assert 0.03 <= alarms / 800 <= 0.07
    assert 0.92 <= covered / 800 <= 0.98


def test_equal_runs_differ_by_nothing() -> None:
    values = np.random.default_rng(8).normal(size=50)
    assert paired_mean_difference(values, values, np.arange(50)) == (0.0, 0.0, 0.0, 1.0, 50)


# Sets


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(9).normal(size=(48, 1))
    interval = set_interval(lambda f: float(f.mean()), values, np.arange(48), groups=48)
    low, high = stats.t.interval(0.95, 47, values.mean(), stats.sem(values[:, 0]))
    assert (interval.low, interval.high) == pytest.approx((low, high))


def test_a_cluster_leaves_as_a_whole() -> None:
    clusters = np.repeat(np.arange(30), 3)
    seen = []

    def statistic(features: np.ndarray) -> float:
        seen.append(features[:, 0])
        return float(features.mean())

    set_interval(statistic, clusters[:, None].astype(float), clusters, groups=10)
    left = [set(range(30)) - set(kept.astype(int)) for kept in seen[1:]]
    assert all(np.bincount(kept.astype(int), minlength=30)[list(set(kept.astype(int)))].min() == 3 for kept in seen)
    assert sorted(itertools.chain(*left)) == list(range(30))


def test_fvd_intervals_cover_and_equal_models_raise_few_alarms() -> None:
    """Features of one distribution; truth: the mean score at this n."""
    rng = np.random.default_rng(10)
    d, n, trials = 6, 120, 200
    scale = np.linspace(0.5, 2, d)
    reference = rng.normal(size=(2000, d)) * scale
    draws = [(rng.normal(size=(n, d)) + 0.5) * scale for _ in range(2 * trials)]
    expected = np.mean([fast_frechet(f, reference) for f in draws])
    covered = alarms = 0
    for a, b in zip(draws[::2], draws[1::2], strict=True):
        interval = set_interval(lambda f: fast_frechet(f, reference), a, np.arange(n), groups=20)
        covered += interval.low <= expected <= interval.high
        t_test = paired_set_difference(
            lambda f: fast_frechet(f, reference), a, b, np.arange(n), groups=20, label_swaps=0
        )
        alarms += t_test.p_value <= 0.05
    assert 0.90 <= covered / trials <= 0.99
    assert alarms / trials <= 0.09


def test_a_percentile_bootstrap_of_fvd_would_miss_its_own_value() -> None:
    """Why sets are jackknifed: resampled clips push FVD bodily above the value they should surround."""
    rng = np.random.default_rng(11)
    features, reference = rng.normal(size=(128, 48)), rng.normal(size=(4000, 48))
    value = frechet(features, reference)
    bootstrap = [fast_frechet(features[rng.integers(128, size=128)], reference) for _ in range(40)]
    assert min(bootstrap) > value
    interval = set_interval(lambda f: fast_frechet(f, reference), features, np.arange(128))
    assert interval.low < value < interval.high


def test_label_swap_p_value_is_exact_under_exchangeability() -> None:
    """Few clusters: compare with all swaps; and over many null sets the p-values are not too small."""
    rng = np.random.default_rng(12)
    a, b = rng.normal(size=(2, 8, 3))
    a += 0.4

    def spread(features: np.ndarray) -> float:
        return float(np.linalg.det(np.cov(features.T)) + features.mean())

    differences = []
    for swap in itertools.product((False, True), repeat=8):
        mask = np.array(swap)[:, None]
        differences.append(abs(spread(np.where(mask, b, a)) - spread(np.where(mask, a, b))))
    exact = np.mean(np.array(differences) >= differences[0] - 1e-12)
    found = paired_set_difference(spread, a, b, np.arange(8), label_swaps=4000)
    assert found.p_value == pytest.approx(exact, abs=0.12 if exact > 0.02 else 0.02)

    alarms = 0
    for _ in range(300):
        a, b = rng.normal(size=(2, 20, 2)) + rng.normal(size=(20, 2))
        alarms += paired_set_difference(spread, a, b, np.arange(20), groups=2, label_swaps=59).p_value <= 0.05
    assert alarms / 300 <= 0.085


def test_labels_are_swapped_for_whole_clusters() -> None:
    """Six prompts that all rise: 2 of 64 swaps are as extreme, however many clips each prompt has."""
    clusters = np.repeat(np.arange(6), 10)
    a = np.random.default_rng(15).normal(size=(60, 2))
    found = paired_set_difference(lambda f: float(f.mean()), a + 1, a, clusters, label_swaps=2000)
    assert found.p_value == pytest.approx(2 / 64, abs=0.015)
    one = a + (clusters == 0)[:, None]  # one prompt alone rises: every swap is as extreme
    assert paired_set_difference(lambda f: float(f.mean()), one, a, clusters).p_value == 1


def test_a_real_difference_of_sets_is_found_and_equal_sets_are_not_tested_long() -> None:
    rng = np.random.default_rng(13)
    a = rng.normal(size=(60, 4))
    calls = 0

    def norm_of_mean(features: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return float(np.linalg.norm(features.mean(0)))

    worse = paired_set_difference(norm_of_mean, a + 1, a, np.arange(60))
    assert worse.p_value <= 0.01
    assert worse.low > 0
    calls = 0
    same = paired_set_difference(norm_of_mean, a + 1e-3 * rng.normal(size=a.shape), a, np.arange(60))
    assert same.p_value > 0.05
    assert calls < 500
    assert paired_set_difference(norm_of_mean, a, a, np.arange(60)).p_value == 1


def test_features_that_are_not_finite_are_refused_with_their_number() -> None:
    features = np.zeros((5, 2))
    features[1, 0] = np.nan
    with pytest.raises(StgEvalError, match="1 of 5 clips"):
        set_interval(lambda f: float(f.mean()), features, np.arange(5))


# Families and planning


@MEASURED
@given(st.lists(st.floats(0.0005, 1), min_size=1, max_size=6), st.sampled_from([0.01, 0.05, 0.1]))
def test_holm_is_the_closed_test_of_bonferroni(p_values: list[float], level: float) -> None:
    """A hypothesis falls iff every intersection that holds it falls by Bonferroni: brute force over all subsets."""
    m = len(p_values)
    adjusted = holm(p_values)
    for i in range(m):
        intersections = (s for r in range(1, m + 1) for s in itertools.combinations(range(m), r) if i in s)
        rejected = all(min(p_values[j] for j in s) <= level / len(s) for s in intersections)
        if abs(adjusted[i] - level) > 1e-12:
            assert (adjusted[i] <= level) == rejected


def test_holm_leaves_untested_metrics_out_of_the_family() -> None:
    assert holm([0.01, np.nan, 0.04]) == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def test_n_to_tell_is_enough_and_half_of_it_is_not() -> None:
    """Simulated: at that n, 80 % of intervals around a true zero lie within the margin."""
    rng = np.random.default_rng(14)
    margin, sigma, pilot = 0.1, 1.0, 100
    n = int(n_to_tell(pilot, 1.96 * sigma / math.sqrt(pilot), margin))

    def within(size: int) -> float:
        error = sigma / math.sqrt(size)
        means = rng.normal(0, error, size=4000)
        return float((np.abs(means) + 1.96 * error < margin).mean())

    assert within(n) == pytest.approx(0.8, abs=0.03)
    assert within(n // 2) < 0.6
    assert n_to_tell(50, 0.01, 0.1) == 50
    assert n_to_tell(50, 0.01, 0) == math.inf
