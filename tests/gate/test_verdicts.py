"""Verdicts: what is found, what is let pass, and how often a comparison of equals is wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stg_eval.gate import Comparison, Policy, Snapshot, compare, snapshot
from stg_eval.gate.policy import read_policy
from stg_eval.metrics import registry
from stg_eval.metrics.fvd import frechet_distance
from stg_eval.metrics.inception_score import PROTOCOLS, score_logits
from stg_eval.statistics import holm
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError

MakeRun = Callable[..., Path]
TIGHT = Policy(margins={"sharpness": 0.1, "toy_fvd": 0.1})


def words(comparison: Comparison) -> dict[str, str]:
    return {v.metric: v.word for v in comparison.verdicts}


def test_a_blurred_run_is_worse_in_what_it_lost_and_same_in_the_rest(make_run: MakeRun) -> None:
    found = compare(make_run("before"), make_run("after", sharper=-0.3), policy=TIGHT)
    assert words(found) == {"sharpness": "worse", "toy_fvd": "same"}
    verdict = found.verdicts[0]
    assert verdict.low < -0.3 < verdict.high
    assert verdict.value - verdict.baseline == pytest.approx(verdict.difference)
    assert verdict.n == 80


def test_better_and_worse_swap_when_the_sides_swap(make_run: MakeRun) -> None:
    a, b = make_run("before"), make_run("after", sharper=0.3, moved=0.5)
    assert words(compare(a, b, policy=TIGHT)) == {"sharpness": "better", "toy_fvd": "worse"}
    assert words(compare(b, a, policy=TIGHT)) == {"sharpness": "worse", "toy_fvd": "better"}


def test_a_difference_too_small_to_matter_is_same_even_when_it_is_certain(make_run: MakeRun) -> None:
    found = compare(make_run("before", noise=0.01), make_run("after", noise=0.01, sharper=-0.05), policy=TIGHT)
    verdict = found.verdicts[0]
    assert verdict.p_holm <= 0.05
    assert verdict.high < 0
    assert verdict.word == "same"


def test_p_values_are_adjusted_over_all_gated_metrics_and_variants(make_run: MakeRun) -> None:
    sides = [make_run(name, cases=10, noise=1, variants=("cfg", "stg")) for name in ("before", "after")]
    verdicts = compare(*sides).verdicts
    assert [(v.variant, v.metric) for v in verdicts] == list(
        itertools.product(("cfg", "stg"), ("sharpness", "toy_fvd"))
    )
    assert [v.p_holm for v in verdicts] == list(holm([v.p_value for v in verdicts]))
    assert verdicts[0].p_holm > verdicts[0].p_value
    alone = compare(*sides, policy=Policy(gate={"toy_fvd": False})).verdicts
    gated = [v for v in alone if v.gated]
    assert [v.p_holm for v in gated] == list(holm([v.p_value for v in gated]))
    assert all(v.p_holm == v.p_value for v in alone if not v.gated)


def test_few_clips_cannot_tell_and_the_n_that_would_is_enough(make_run: MakeRun) -> None:
    few = compare(make_run("before", cases=20, noise=1), make_run("after", cases=20, noise=1), policy=TIGHT)
    unsure = few.verdicts[0]
    assert unsure.word == "cannot tell"
    assert unsure.n < unsure.n_to_tell < math.inf
    cases = int(unsure.n_to_tell / 2 * 1.5)  # two seeds a case; half as many again, as the estimate has an error itself
    many = compare(make_run("b2", cases=cases, noise=1), make_run("a2", cases=cases, noise=1), policy=TIGHT)
    assert many.verdicts[0].word == "same"


def test_a_small_difference_with_a_wide_interval_is_not_same(make_run: MakeRun) -> None:
    loose = Policy(margins={"sharpness": 0.4, "toy_fvd": 0.4})
    found = compare(make_run("before", cases=10, noise=1), make_run("after", cases=10, noise=1), policy=loose)
    verdict = found.verdicts[0]
    assert abs(verdict.difference) < verdict.margin < verdict.high - verdict.low
    assert verdict.word == "cannot tell"


def test_one_case_with_many_seeds_cannot_tell(make_run: MakeRun) -> None:
    found = compare(make_run("before", cases=1, seeds=range(30)), make_run("after", cases=1, seeds=range(30)))
    assert set(words(found).values()) == {"cannot tell"}
    assert math.isnan(found.verdicts[0].low)


@pytest.mark.parametrize(("cases", "word"), [(2, "cannot tell"), (100, "same")])
def test_few_equal_0_1_scores_cannot_tell_and_many_are_the_same(make_run: MakeRun, cases: int, word: str) -> None:
    def dynamic(run: Results) -> None:
        run.scores["sharpness"] = 1.0

    sides = [make_run(name, cases=cases, seeds=(0,), edit=dynamic) for name in ("before", "after")]
    verdict = compare(*sides, policy=Policy(margins={"sharpness": 0.05})).verdicts[0]
    assert (verdict.difference, verdict.word) == (0.0, word)


def test_a_set_metric_with_too_few_clips_says_how_many_it_needs(make_run: MakeRun) -> None:
    found = compare(make_run("before", cases=3), make_run("after", cases=3), policy=TIGHT)
    assert words(found)["toy_fvd"] == "cannot tell"
    assert found.verdicts[1].note == "needs at least 8 clips"


def test_a_set_metric_is_compared_on_the_clips_that_it_counts(make_run: MakeRun) -> None:
    """The store has features of all 80; beyond the first 20 they are another metric's, or an earlier run's."""

    def first(count: int) -> Callable[[Results], None]:
        def edit(run: Results) -> None:
            run.scores["toy_fvd"] = run.scores.index < count

        return edit

    def drifted(count: int) -> Path:
        return make_run(f"after-{count}", moved=0.5, edit=first(count))

    older = make_run("older")  # written before runs said what counts: the other side says it
    for before in (make_run("before", edit=first(20)), older):
        found = compare(before, drifted(20), policy=TIGHT)
        verdict = found.verdicts[1]
        assert (verdict.n, verdict.word) == (20, "worse")
        assert {w.case for w in found.worst if w.metric == "toy_fvd"} <= {f"case-{c}" for c in range(10)}
    assert compare(older, make_run("later"), policy=TIGHT).verdicts[1].n == 80


def test_samples_as_clusters_where_the_suite_says_so(make_run: MakeRun) -> None:
    by_sample = {"cluster": "sample"}
    sides = [make_run(name, cases=2, seeds=range(30), record=by_sample) for name in ("before", "after")]
    assert words(compare(*sides, policy=TIGHT)) == {"sharpness": "same", "toy_fvd": "same"}


def test_comparisons_of_equals_are_rarely_wrong(make_run: MakeRun) -> None:
    """60 pairs that differ by noise alone, with a margin that excuses nothing: at most 5 % plus chance are alarms."""
    harsh = Policy(margins={"sharpness": 0.0, "toy_fvd": 0.0})
    base, rng = snapshot.load(make_run("base", cases=15)), np.random.default_rng(3)

    def noisy() -> Snapshot:
        scores = base.scores.assign(sharpness=base.scores["sharpness"] + rng.normal(size=30))
        features = {name: f + rng.normal(size=f.shape).astype(np.float32) for name, f in base.features.items()}
        return replace(base, scores=scores, features=features)

    alarms = 0
    for _ in range(60):
        verdicts = compare(noisy(), noisy(), policy=harsh).verdicts
        alarms += any(v.word in ("better", "worse") for v in verdicts)
    assert alarms <= 8  # P(more) < 0.2 % if the rate is 5 %


def test_the_worst_pairs_are_those_that_fell_most(make_run: MakeRun) -> None:
    def break_one(run: Results) -> None:
        run.scores.loc[run.scores["case"] == "case-7", "sharpness"] -= 50

    found = compare(make_run("before"), make_run("after", sharper=-0.5, edit=break_one), policy=TIGHT)
    worst = [w for w in found.worst if w.metric == "sharpness"]
    assert {w.case for w in worst[:2]} == {"case-7"}
    assert worst[0].after < worst[0].before
    assert len(worst) == 5
    assert [w.change for w in worst] == sorted(w.change for w in worst)


def test_nan_on_one_side_is_refused_and_on_both_sides_takes_no_part(make_run: MakeRun) -> None:
    def broken(run: Results) -> None:
        run.scores.loc[3, "sharpness"] = np.nan

    intact, bad = make_run("before"), make_run("after", edit=broken)
    with pytest.raises(
        StgEvalError, match=r"sharpness is nan in the run alone for 1 clips.*cfg/case-1/seed 1"
    ) as error:
        compare(intact, bad)
    assert error.value.exit_code == 2
    with pytest.raises(StgEvalError, match="nan in the baseline alone"):
        compare(bad, intact)
    assert compare(bad, make_run("other", edit=broken)).verdicts[0].n == 79


def test_clips_that_the_static_filter_picks_are_paired_by_case(make_run: MakeRun) -> None:
    """Each run picks its own clips of a case, so one side may lack a score that the other has."""

    def pick(odd: int) -> Callable[[Results], None]:
        def edit(run: Results) -> None:
            run.scores.loc[run.scores["seed"] == odd, "sharpness"] = np.nan
            run.scores.loc[run.scores["case"] == f"case-{odd}", "sharpness"] = np.nan

        return edit

    static = {"keep_static": {"sharpness": 1}}
    verdict = compare(
        make_run("before", edit=pick(0), record=static), make_run("after", edit=pick(1), record=static, noise=0)
    ).verdicts[0]
    assert verdict.n == 38  # cases, less the two that have nothing on one side


def test_policy_file_changes_margins_level_and_gate(make_run: MakeRun, tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text('level = 0.01\n[margins]\nsharpness = 0.5\ntoy_fvd = "200%"\n[gate]\nsharpness = false\n')
    policy = read_policy(file)
    assert policy.level == 0.01
    assert policy.margin("toy_fvd", 3.0) == 6.0
    found = compare(make_run("before"), make_run("after", sharper=-1), policy=policy)
    assert words(found) == {"sharpness": "worse", "toy_fvd": "same"}
    assert found.regressions == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("level = 2.0", "level must lie between 0 and 1"),
        ("[margins]\nsharpnes = 1", "did you mean 'sharpness'"),
        ('[margins]\nsharpness = "a lot"', "must be a number or per cent"),
        ("[margins]\nsharpness = -1", "must be a number or per cent"),
        ("[gate]\nsharpness = 1", "must be true or false"),
        ("margin = 3", "unknown entry 'margin'"),
        ("level = ", "cannot read"),
        ("level = " + "[" * 100_000, "cannot read"),
        ("margins = 3", "margins must be a table"),
    ],
)
def test_a_mistake_in_the_policy_file_is_named(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(StgEvalError, match=problem):
        read_policy(file)


@pytest.mark.parametrize("shift", [-0.4, 0.4])
def test_a_metric_without_a_better_direction_fails_either_way(shift: float, make_run: MakeRun) -> None:
    def no_direction(run: Results) -> None:
        object.__setattr__(run.columns[0], "higher_is_better", None)

    sides = make_run("before", edit=no_direction), make_run("after", sharper=shift, edit=no_direction)
    found = compare(*sides, policy=TIGHT)
    assert words(found)["sharpness"] == "changed"
    assert [v.metric for v in found.regressions] == ["sharpness"]
    assert [abs(w.change) for w in found.worst] == sorted((abs(w.change) for w in found.worst), reverse=True)


def test_gating_can_be_switched_on_and_off(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    assert not Policy().gated("static_filter")
    assert Policy().gated("sharpness")
    file.write_text("[gate]\nstatic_filter = true\nsharpness = false\n")
    assert read_policy(file).gated("static_filter")
    assert not read_policy(file).gated("sharpness")


def test_metric_that_is_not_installed_here_has_the_margin_of_strangers() -> None:
    assert Policy().margin("somebodys_metric", 50.0) == 1.0
    assert Policy().gated("somebodys_metric")


def test_cached_features_of_published_metrics_are_compared_without_their_networks() -> None:
    rng = np.random.default_rng(0)
    features, real = rng.normal(size=(40, 8)), rng.normal(size=(50, 8))
    distance = registry.card("fvd").of_set
    assert distance(features, real) == frechet_distance(features, real)
    assert distance(features, features) == pytest.approx(0, abs=1e-9)  # another reference is not the first one
    assert distance(features, real) == frechet_distance(features, real)
    for name, protocol in (("is", "stylegan-v"), ("is_tgan", "tgan")):
        score = registry.card(name).of_set
        assert score(features, None) == score_logits(features, PROTOCOLS[protocol]).mean
