"""Clips of one request that are not the same clip any more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.gate import Comparison, Policy, Verdict, compare, gate
from stg_eval.gate.moved import share
from stg_eval.gate.policy import read_policy
from stg_eval.storage.results import Results
from stg_eval.types import StgEvalError

MakeRun = Callable[..., Path]
STILL: dict[str, Any] = {"requests": "r", "noise": 0, "dtype": "float32"}
"""What makes two runs of the same clips."""
LOOSE = {"sharpness": 9.0, "toy_fvd": 9.0}


def verdict(found: Comparison) -> Verdict:
    (only,) = [v for v in found.verdicts if v.metric == "moved"]
    return only


def blur(clips: int, by: float = 1.0) -> Callable[[Results], None]:
    """Takes `by` off the sharpness of the first clips."""

    def edit(run: Results) -> None:
        run.scores.loc[: clips - 1, "sharpness"] -= by

    return edit


def test_clips_that_moved_fail_the_gate_although_no_mean_did(make_run: MakeRun) -> None:
    baseline, run = make_run("before", **STILL), make_run("after", **STILL, edit=blur(8))
    policy = Policy(margins={"sharpness": 0.2, "toy_fvd": 9.0, "moved": 0.02})
    found = compare(baseline, run, policy=policy)
    assert {v.metric: v.word for v in found.verdicts} == {"sharpness": "same", "toy_fvd": "same", "moved": "changed"}
    assert verdict(found).value == 8 / 80
    assert [v.metric for v in found.regressions] == ["moved"]
    assert len(found.worst) == 5
    assert all(w.change == pytest.approx(1.0 / 0.2) for w in found.worst)
    assert gate(baseline, run).exit_code == 1


def test_features_alone_can_show_it(make_run: MakeRun) -> None:
    found = compare(make_run("before", **STILL), make_run("after", **STILL, moved=0.5), policy=Policy(margins=LOOSE))
    assert (verdict(found).value, verdict(found).n) == (1.0, 80)


def test_rounding_moves_nothing(make_run: MakeRun) -> None:
    """A thousandth of the spread, in scores and features alike."""
    rounded = STILL | {"noise": 0.001}
    found = compare(
        make_run("before", **STILL), make_run("after", **rounded), policy=Policy(margins={"sharpness": 0.1})
    )
    assert (verdict(found).word, verdict(found).value) == ("same", 0)


def test_few_clips_that_stayed_are_the_same(make_run: MakeRun) -> None:
    found = compare(make_run("before", cases=2, **STILL), make_run("after", cases=2, **STILL))
    assert (verdict(found).word, verdict(found).n) == ("same", 4)
    assert verdict(found).high > 0.5, "the interval still says how little four clips are"


def test_one_clip_of_many_is_let_pass(make_run: MakeRun) -> None:
    found = compare(make_run("before", **STILL), make_run("after", **STILL, edit=blur(1)), policy=Policy(margins=LOOSE))
    assert verdict(found).value == 0, "the margin of the score is what counts as moved"
    policy = Policy(margins={"sharpness": 0.5, "toy_fvd": 9.0, "moved": 0.02})
    found = compare(make_run("b2", **STILL), make_run("a2", **STILL, edit=blur(1)), policy=policy)
    assert (verdict(found).value, verdict(found).word) == (1 / 80, "cannot tell")
    assert not found.regressions


def test_half_precision_shows_it_and_gates_it_only_if_told_to(make_run: MakeRun, tmp_path: Path) -> None:
    half = STILL | {"dtype": "bfloat16"}
    baseline, run = make_run("before", **half), make_run("after", **half, edit=blur(20))
    loose = '[margins]\nsharpness = 0.4\ntoy_fvd = "900%"\n'
    config = tmp_path / "gate.toml"
    for text, exit_code in ((loose, 0), (f"{loose}[gate]\nmoved = true\n", 1), (f"{loose}[gate]\nmoved = false\n", 0)):
        config.write_text(text)
        outcome = gate(baseline, run, config=config)
        assert outcome.exit_code == exit_code, text
        assert [v["word"] for v in outcome.data["verdicts"] if v["metric"] == "moved"] == ["changed"]


def test_other_requests_promise_no_clip(make_run: MakeRun) -> None:
    other = STILL | {"requests": "twice-the-steps"}
    found = compare(make_run("before", **STILL), make_run("after", **other, edit=blur(40)))
    assert "moved" not in {v.metric for v in found.verdicts}


def test_each_variant_is_judged_by_itself(make_run: MakeRun) -> None:
    both = STILL | {"variants": ("cfg", "stg")}
    policy = Policy(margins={"sharpness": 0.5, "toy_fvd": 9.0, "moved": 0.02})
    found = compare(make_run("before", **both), make_run("after", **both, edit=blur(40)), policy=policy)
    assert [(v.variant, v.metric) for v in found.verdicts][2::3] == [("cfg", "moved"), ("stg", "moved")]
    assert [v.value for v in found.verdicts if v.metric == "moved"] == [0.5, 0.0]


@given(st.integers(1, 60), st.integers(0, 60), st.floats(0.01, 0.5))
def test_p_value_is_the_binomial_tail_and_the_interval_the_numbers_it_cannot_rule_out(
    n: int, count: int, limit: float
) -> None:
    count = min(count, n)
    found = share(np.array([2.0] * count + [0.5] * (n - count) + [math.nan] * 3), limit)

    def tail(p: float, least: int) -> float:
        return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(least, n + 1))

    assert (found.n, found.difference) == (n, count / n)
    assert found.p_value == pytest.approx(tail(limit, count), rel=1e-9)
    assert count == 0 or tail(found.low, count) == pytest.approx(0.025, rel=1e-6)
    assert count == n or 1 - tail(found.high, count + 1) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("margin", ['"2%"', "2", "1.5", "-0.1", '"a few"', "true"])
def test_margin_that_is_no_share_says_so(tmp_path: Path, margin: str) -> None:
    config = tmp_path / "gate.toml"
    config.write_text(f"[margins]\nmoved = {margin}\n")
    with pytest.raises(StgEvalError, match=r"margins\.moved must be "):
        read_policy(config)


def test_pairs_about_which_nothing_is_known_do_not_count_as_unmoved(make_run: MakeRun) -> None:
    def unscored(run: Results) -> None:
        run.scores.loc[8:, "sharpness"] = math.nan
        run.scores["key"] += "-"  # under which the store has no features

    def few(run: Results) -> None:
        unscored(run)
        run.scores.loc[:3, "sharpness"] -= 1

    only = replace(Policy(), margins={"sharpness": 0.5, "moved": 0.02})
    found = compare(make_run("before", **STILL, edit=unscored), make_run("after", **STILL, edit=few), policy=only)
    assert (verdict(found).n, verdict(found).value) == (8, 0.5)


def test_a_difference_without_a_scale_moves_nothing(make_run: MakeRun) -> None:
    """One clip has no typical distance to others."""
    one = STILL | {"cases": 1, "seeds": (0,)}
    found = compare(make_run("before", **one), make_run("after", **one | {"noise": 1e-6}), policy=Policy(margins=LOOSE))
    assert verdict(found).word == "same"


def test_scored_folders_promise_no_clip_either(make_run: MakeRun) -> None:
    """The key of a file is its digest."""
    folder = {"record": {"request": None}}
    found = compare(make_run("before", **STILL, **folder), make_run("after", **STILL, **folder))
    assert "moved" not in {v.metric for v in found.verdicts}
