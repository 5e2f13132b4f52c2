"""Who sees what: balance and order hold for every design."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.rating.design import deal, trials, with_anchors
from stg_eval.types import StgEvalError

designs = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(1, 9)).flatmap(
    lambda d: st.tuples(st.just(d[0]), st.just(d[1]), st.just(d[2]), st.integers(1, d[0]), st.integers(0, 99))
)


@given(designs)
def test_every_case_is_dealt_equally_often_give_or_take_one(design) -> None:
    cases, _, raters, each, seed = design
    hands = deal(cases, raters, each, seed)
    assert all(len({case for case, _ in hand}) == each for hand in hands)
    counts = Counter(case for hand in hands for case, _ in hand)
    assert max(counts.values()) - min(counts.get(case, 0) for case in range(cases)) <= 1


@given(designs)
def test_a_rater_sees_every_variant_of_a_case_once_and_never_two_in_a_row(design) -> None:
    cases, variants, raters, each, seed = design
    for order in trials(cases, variants, raters, mode="single", cases_each=each, seed=seed):
        clips = [one.left for one in order]
        assert len(set(clips)) == len(clips) == each * variants
        assert {case for case, _ in clips} == {case for case, variant in clips if variant == 0}
        if each > 1:
            assert all(a[0] != b[0] for a, b in pairwise(clips))


@given(designs)
def test_sides_and_first_variants_are_balanced(design) -> None:
    cases, _, raters, each, seed = design
    left = Counter()
    for order in trials(cases, 2, raters, mode="pair", cases_each=each, seed=seed):
        sides = Counter(one.left[1] for one in order)
        assert all({one.left[1], one.right[1]} == {0, 1} and one.left[0] == one.right[0] for one in order)
        assert abs(sides[0] - sides[1]) <= 2
        left += Counter((one.left[0], one.left[1]) for one in order)
    for case in range(cases):
        assert abs(left[case, 0] - left[case, 1]) <= 1


@given(designs)
def test_the_same_seed_gives_the_same_study_and_another_seed_another_order(design) -> None:
    cases, variants, raters, each, seed = design
    again = [trials(cases, variants, raters, mode="single", cases_each=each, seed=seed) for _ in range(2)]
    assert again[0] == again[1]


def test_orders_differ_between_raters() -> None:
    orders = trials(12, 2, 5, mode="single", cases_each=12, seed=0)
    assert len({tuple(order) for order in orders}) == 5


def test_anchors_are_hidden_and_never_first() -> None:
    for rater in range(50):
        order = with_anchors([(i, None) for i in range(6)], [(98, None), (99, None)], 0, rater)
        assert sorted(order) == sorted([*((i, None) for i in range(6)), (98, None), (99, None)])
        assert order[0][0] < 98


def test_designs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(StgEvalError, match="1 to 4"):
        deal(4, 2, 5, 0)
    with pytest.raises(StgEvalError, match="two variants"):
        trials(4, 1, 2, mode="pair", cases_each=4, seed=0)
