"""The Fréchet distance equals the reference implementations'; golden/fvd.json holds what they returned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.metrics.fvd import FrechetStatistic, frechet_distance
from stg_eval.types import StgEvalError

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "fvd.json").read_text())["cases"]
TOLERANCE = {"plain": 1e-9, "tiny_scale": 1e-9, "layernorm_like": 1e-8, "offset_1e3": 1e-8, "offset_1e4": 1e-5}
"""Relative, against cd-fvd: what its own value moves by when only its chunk size changes, with a margin. It averages
squares, which loses digits that centring first keeps; see the comparison with the two-pass values."""


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "fvd.npz") as data:
        return dict(data)


class Channels:
    """A stand-in for a network: the mean of each channel and frame."""

    signature = "channels"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        return range(num_frames)

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([c.mean(axis=(1, 2), dtype=np.float64).ravel() for c in clips]).astype(np.float32)


def sets(seed: int, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mix + 0.3, rng.normal(size=(m, d)) @ mix * 1.2


SETS = st.builds(sets, st.integers(0, 2**32), st.integers(2, 40), st.integers(2, 40), st.integers(1, 24))


@pytest.mark.parametrize("case", [c for c in CASES if c != "identical"])
def test_golden_case_equals_cd_fvd(case: str, golden: dict[str, np.ndarray]) -> None:
    distance = frechet_distance(golden[f"{case}_fake"], golden[f"{case}_real"])
    assert distance == pytest.approx(CASES[case]["official"], rel=TOLERANCE.get(case, 5e-8))


@pytest.mark.parametrize("case", [c for c in CASES if c != "identical"])
def test_golden_case_equals_the_careful_two_pass_value(case: str, golden: dict[str, np.ndarray]) -> None:
    distance = frechet_distance(golden[f"{case}_fake"], golden[f"{case}_real"])
    assert distance == pytest.approx(CASES[case]["two_pass_reference"], rel=1e-12)


def test_golden_identical_sets_are_at_distance_zero(golden: dict[str, np.ndarray]) -> None:
    assert abs(frechet_distance(golden["identical_fake"], golden["identical_real"])) < 1e-11


def test_golden_unbiased_covariance_is_the_other_formula(golden: dict[str, np.ndarray]) -> None:
    distance = frechet_distance(golden["plain_fake"], golden["plain_real"], ddof=1)
    assert distance == pytest.approx(CASES["plain"]["unbiased_float32_svd_variant"], rel=1e-5)  # theirs is float32


def test_golden_subset_and_repetition_are_what_cd_fvd_made_of_them(golden: dict[str, np.ndarray]) -> None:
    values = json.loads((GOLDEN / "fvd.json").read_text())
    fake, real = golden["plain_fake"], golden["plain_real"]
    assert frechet_distance(fake[:100], real[:100]) == pytest.approx(values["max_items_100"], rel=1e-9)
    repeated = np.resize(fake[:10], (64, fake.shape[1]))
    assert frechet_distance(repeated, real) == pytest.approx(values["resampled_10_to_64"], rel=1e-7)


@pytest.mark.parametrize("ddof", [0, 1])
def test_equals_the_matrix_square_root(ddof: int) -> None:
    a, b = sets(0, 90, 120, 30)
    s1, s2 = np.cov(a.T, ddof=ddof), np.cov(b.T, ddof=ddof)
    root = scipy.linalg.sqrtm(s1 @ s2).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s1 + s2 - 2 * root)
    assert frechet_distance(a, b, ddof=ddof) == pytest.approx(expected, rel=1e-10)


def test_one_dimension_has_a_closed_form() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 50, 1)) * [[[1.0]], [[3.0]]]
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(SETS)
def test_distance_is_symmetric_and_not_negative(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    scale = np.var(a, axis=0).sum() + np.var(b, axis=0).sum()
    distance = frechet_distance(a, b)
    assert distance == pytest.approx(frechet_distance(b, a), rel=1e-9, abs=1e-9 * scale)
    assert distance > -1e-9 * scale


@settings(max_examples=60, deadline=None)
@given(SETS, st.randoms(use_true_random=False))
def test_order_of_the_clips_does_not_matter(pair: tuple[np.ndarray, np.ndarray], random: object) -> None:
    a, b = pair
    order = list(range(len(a)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert frechet_distance(a[order], b) == pytest.approx(frechet_distance(a, b), rel=1e-9, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(SETS)
def test_a_set_is_at_distance_zero_from_itself_wherever_it_lies(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, _ = pair
    scale = np.var(a, axis=0).sum()
    assert abs(frechet_distance(a, a)) <= 1e-7 * scale
    assert abs(frechet_distance(a + 1000, a + 1000)) <= 1e-7 * scale


@settings(max_examples=30, deadline=None)
@given(SETS, st.integers(0, 99))
def test_rotating_and_moving_both_sets_changes_nothing(pair: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    a, b = pair
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(a.shape[1], a.shape[1])))
    moved = frechet_distance(a @ rotation + 5, b @ rotation + 5)
    assert moved == pytest.approx(frechet_distance(a, b), rel=1e-8, abs=1e-6)


def test_shift_of_a_set_adds_its_squared_length() -> None:
    a, _ = sets(1, 40, 2, 8)
    assert frechet_distance(a + 0.5, a) == pytest.approx(8 * 0.25, rel=1e-9)


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (np.ones((1, 4)), "at least two clips"),
        (np.ones(4), "at least two clips"),
        (np.ones((9, 3)), "of 3 and 4 dimensions"),
        (np.array([[1.0, 2, 3, 4], [1, np.nan, 3, 4], [1, 2, 3, np.inf]]), "of 2 clips are not finite"),
    ],
)
def test_bad_features_are_refused_by_name(features: np.ndarray, problem: str) -> None:
    with pytest.raises(StgEvalError, match=problem):
        frechet_distance(features, np.random.default_rng(0).normal(size=(5, 4)))


def test_unknown_covariance_and_absent_reference_are_refused() -> None:
    with pytest.raises(StgEvalError, match="ddof is 0"):
        frechet_distance(np.eye(3), np.eye(3), ddof=2)
    with pytest.raises(StgEvalError, match="real clips"):
        FrechetStatistic()(np.eye(3), None)
