"""Inception Score equals the three reference formulas; golden/inception_score.json holds what they returned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.metrics.inception_score import (
    PROTOCOLS,
    inception_score,
    score_logits,
    softmax,
)
from stg_eval.types import StgEvalError

GOLDEN = Path(__file__).parent / "golden"
VALUES = json.loads((GOLDEN / "inception_score.json").read_text())
CASES = ["n500", "n503", "peaky", "zero_prob", "uniform"]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "inception_score.npz") as data:
        return dict(data)


class Pixels:
    """A stand-in for a classifier: the first four pixels are the logits."""

    signature = "pixels"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        return range(num_frames)

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([c.ravel()[:4] for c in clips]).astype(np.float32) / 64


PROBABILITIES = st.builds(
    lambda seed, n, classes, sharp: softmax(np.random.default_rng(seed).normal(size=(n, classes)) * sharp),
    st.integers(0, 2**32),
    st.integers(1, 60),
    st.integers(2, 20),
    st.floats(0, 30),
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("splits", [1, 10])
def test_golden_case_equals_tganv2(case: str, splits: int, golden: dict[str, np.ndarray]) -> None:
    score = inception_score(golden[f"{case}_probs"], splits=splits, eps=PROTOCOLS["tganv2"].eps)
    expected = VALUES[case][f"tgan2_splits{splits}"]
    assert score.mean == pytest.approx(expected["mean"], rel=1e-12)
    assert score.spread == pytest.approx(expected["std"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("splits", [1, 10])
def test_golden_case_equals_stylegan_v(case: str, splits: int, golden: dict[str, np.ndarray]) -> None:
    protocol = PROTOCOLS["stylegan-v"]
    score = inception_score(golden[f"{case}_probs"], splits=splits, shuffle_seed=protocol.shuffle_seed)
    expected = {k: float(v) for k, v in VALUES[case][f"stylegan_v_splits{splits}"].items()}
    assert score.mean == pytest.approx(expected["mean"], rel=2e-6, nan_ok=True)  # theirs is float32
    assert score.spread == pytest.approx(expected["std"], rel=1e-5, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("case", CASES)
def test_golden_case_equals_tgan(case: str, golden: dict[str, np.ndarray]) -> None:
    score = inception_score(golden[f"{case}_probs"], eps=PROTOCOLS["tgan"].eps)
    assert score.mean == pytest.approx(VALUES[case]["tgan1_single"], rel=1e-6)  # theirs is float32


def test_golden_shuffle_is_numpys(golden: dict[str, np.ndarray]) -> None:
    p = softmax(np.random.default_rng(0).normal(size=(200, 7)) * 3)
    shuffled = p[golden["shuffle_order_200_seed42"]]
    assert inception_score(p, splits=10, shuffle_seed=42) == inception_score(shuffled, splits=10)


@pytest.mark.parametrize("case", ["peaky", "uniform", "zero_prob"])
def test_probabilities_of_logits_equal_the_references(case: str, golden: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(softmax(golden[f"{case}_logits"]), golden[f"{case}_probs"], atol=5e-7)


def test_logits_never_underflow_to_nan(golden: dict[str, np.ndarray]) -> None:
    score = score_logits(golden["zero_prob_logits"], PROTOCOLS["stylegan-v"])
    limit = inception_score(golden["zero_prob_probs"], splits=10, shuffle_seed=42, eps=1e-30)
    assert score.mean == pytest.approx(limit.mean, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(PROBABILITIES)
def test_score_lies_between_one_and_the_number_of_classes(p: np.ndarray) -> None:
    score = inception_score(p, eps=1e-20)
    assert 1 - 1e-9 <= score.mean <= min(p.shape) + 1e-9
    assert score.spread == 0


@settings(max_examples=60, deadline=None)
@given(PROBABILITIES, st.integers(0, 99))
def test_order_of_the_clips_does_not_matter_in_one_split(p: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(p))
    assert inception_score(p[order], eps=1e-20).mean == pytest.approx(inception_score(p, eps=1e-20).mean, rel=1e-9)


def test_sure_and_evenly_varied_answers_score_the_number_of_classes() -> None:
    p = np.eye(7)[np.arange(70) % 7]
    assert inception_score(p, eps=1e-20).mean == pytest.approx(7, rel=1e-9)
    assert inception_score(np.full((70, 7), 1 / 7)).mean == pytest.approx(1, rel=1e-12)


def test_class_order_without_shuffle_scores_too_low_in_splits() -> None:
    p = np.eye(10)[np.arange(200) // 20]
    assert inception_score(p, splits=10, eps=1e-20).mean == pytest.approx(1, rel=1e-9)
    assert inception_score(p, splits=10, eps=1e-20, shuffle_seed=42).mean > 6


def test_splits_and_spread_are_those_of_the_protocol() -> None:
    logits = np.random.default_rng(0).normal(size=(4096, 11)) * 3
    assert score_logits(logits, PROTOCOLS["stylegan-v"]).splits == 10
    assert score_logits(logits, PROTOCOLS["tgan"]).splits == 1
    score = score_logits(logits, PROTOCOLS["tganv2"])
    halves = [inception_score(softmax(half), eps=1e-20).mean for half in (logits[:2048], logits[2048:])]
    assert score.splits == 2
    assert score.mean == pytest.approx(np.mean(halves), rel=1e-12)
    assert score.spread == pytest.approx(np.std(halves), rel=1e-9)
    assert [PROTOCOLS["tganv2"].num_splits(n) for n in (100, 2048, 10_000, 20_480)] == [1, 1, 5, 10]


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(StgEvalError, match="over 10 splits needs at least as many clips, not 9"):
        inception_score(np.full((9, 4), 0.25), splits=10)
    with pytest.raises(StgEvalError, match="with sum 1"):
        inception_score(np.random.default_rng(0).normal(size=(9, 4)))
    with pytest.raises(StgEvalError, match="with sum 1"):
        inception_score(np.full((9, 4), np.nan))
