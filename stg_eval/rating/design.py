"""Who sees which clips, in which order: balanced, shuffled for each rater, the same for the same seed. Pure.

Clips are numbered by case and variant. A rater sees all variants of each of their cases, so every comparison is paired
within raters; cases are dealt out in turn, so each is rated equally often, give or take one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from stg_eval.rating.aspects import Mode
from stg_eval.types import StgEvalError

T = TypeVar("T")


class Shown(NamedTuple):
    """One trial of one rater: the clip shown, as (case, variant), and for a pair the one to its right."""

    left: tuple[int, int]
    right: tuple[int, int] | None = None


class Dealt(NamedTuple):
    """A case of one rater."""

    case: int
    turn: int
    """Alternates along a rater's cases and from rater to rater of a case: it says which variant comes first."""


def deal(num_cases: int, num_raters: int, cases_each: int, seed: int) -> list[list[Dealt]]:
    """Return the cases of each rater, `cases_each` different ones of `num_cases`, in turn through a shuffled deck.

    How often two cases are dealt differs by at most one. Raises StgEvalError where a rater would see a case twice.
    """
    if not 1 <= cases_each <= num_cases:
        raise StgEvalError(f"a rater can see 1 to {num_cases} of the run's {num_cases} cases, not {cases_each}")
    if num_raters < 1:
        raise StgEvalError("a study needs at least one rater")
    deck = [int(case) for case in np.random.default_rng([seed, 0]).permutation(num_cases)]
    hands = []
    for rater in range(num_raters):
        places = (divmod(rater * cases_each + k, num_cases) for k in range(cases_each))
        hands.append([Dealt(deck[place], place + times) for times, place in places])
    return hands


def trials(
    num_cases: int, num_variants: int, num_raters: int, *, mode: Mode, cases_each: int, seed: int
) -> list[list[Shown]]:
    """Return the trials of each rater in the order they are shown.

    Single clips come in `num_variants` rounds; each round shows every case of the rater once, so two clips of a case
    are never neighbours (with two cases or more), and which variant comes first is balanced over raters and cases.
    Pairs show variant 0 (the baseline) with each other variant; which one is on the left is balanced likewise.
    Raises StgEvalError for a design that does not exist.
    """
    if mode == "pair" and num_variants < 2:
        raise StgEvalError("pairs need a run with two variants or more; rate single clips instead")
    order = _singles if mode == "single" else _pairs
    hands = deal(num_cases, num_raters, cases_each, seed)
    return [order(hand, num_variants, np.random.default_rng([seed, 1, r])) for r, hand in enumerate(hands)]


def _singles(hand: list[Dealt], num_variants: int, rng: np.random.Generator) -> list[Shown]:
    order: list[Shown] = []
    for round_ in range(num_variants):
        shuffled = [hand[i] for i in rng.permutation(len(hand))]
        if order and len(shuffled) > 1 and shuffled[0].case == order[-1].left[0]:
            shuffled[0], shuffled[-1] = shuffled[-1], shuffled[0]
        order += [Shown((case, (round_ + turn) % num_variants)) for case, turn in shuffled]
    return order


def _pairs(hand: list[Dealt], num_variants: int, rng: np.random.Generator) -> list[Shown]:
    order: list[Shown] = []
    for other in range(1, num_variants):
        for case, turn in (hand[i] for i in rng.permutation(len(hand))):
            sides = (case, 0), (case, other)
            order.append(Shown(*(sides if (turn + other) % 2 else sides[::-1])))
    return order


def with_anchors(order: Sequence[T], anchors: Sequence[T], seed: int, rater: int) -> list[T]:
    """Put `anchors` between a rater's trials, never first, where raters still learn the scale."""
    rng = np.random.default_rng([seed, 2, rater])
    out = list(order)
    for anchor in rng.permutation(len(anchors)):
        out.insert(int(rng.integers(1, len(out) + 1)), anchors[int(anchor)])
    return out
