"""The embedded metrics see what they claim to see, on the sprites themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.datasets import sprites as data
from stg_eval.metrics import ClipScorer, SetMetric, registry
from stg_eval.metrics.sprites import PixelExtractor, SpritesExtractor, improved_recall
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

SETS = [name for name in registry.METRICS if name.endswith("_sprites") and name != "accuracy_sprites"]
INFO = VideoInfo(Path("clip.mp4"), 8, 16, 16, 8.0, "ffv1")


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    return data.reference(192)


@pytest.fixture(scope="module")
def others() -> np.ndarray:
    """Real clips too, but other ones."""
    return data.reference(192, first_index=data.VALIDATION_FIRST)


def score(name: str, clips: np.ndarray, real: np.ndarray) -> float:
    card = registry.card(name)
    extractor = card.load("cpu").extractor  # type: ignore[union-attr]
    return card.of_set(extractor.extract(list(clips)), extractor.extract(list(real)))


def accuracy(clip: np.ndarray, label: int, chunk: int = 3) -> float:
    scorer: ClipScorer = registry.card("accuracy_sprites").load("cpu")  # type: ignore[assignment]
    scorer.begin(INFO, Case(id="a", label=label))
    for start in range(0, len(clip), chunk):
        scorer.update(clip[start : start + chunk])
    return scorer.end()


@pytest.mark.parametrize("name", SETS)
def test_order_and_batches_of_clips_do_not_change_the_score(name: str, real: np.ndarray, others: np.ndarray) -> None:
    card = registry.card(name)
    metric: SetMetric = card.load("cpu")  # type: ignore[assignment]
    order = np.random.default_rng(0).permutation(len(others))
    together = metric.extractor.extract(list(others))
    alone = np.concatenate([metric.extractor.extract(list(others[i : i + 7])) for i in range(0, len(others), 7)])
    np.testing.assert_allclose(alone, together, atol=1e-4)
    reference = metric.extractor.extract(list(real))
    assert card.of_set(together[order], reference) == pytest.approx(card.of_set(together, reference), rel=1e-7)


def test_metrics_that_share_the_classifier_share_its_cached_features() -> None:
    extractors = {registry.card(n).load("cpu").extractor.signature for n in SETS}  # type: ignore[union-attr]
    assert len(extractors) == 2
    signatures = [registry.card(n).load("cpu").signature for n in SETS]
    assert len(set(signatures)) == len(SETS)
    assert all("|n*|" in s for s in signatures)


def test_fvd_and_recall_of_real_clips_are_good(real: np.ndarray, others: np.ndarray) -> None:
    assert score("fvd_sprites", real, real) == pytest.approx(0, abs=1e-6)
    assert score("recall_sprites", others, real) > 0.9
    assert score("is_sprites", others, real) > 6


def test_shuffled_frames_are_far_away(real: np.ndarray, others: np.ndarray) -> None:
    shuffled = others[:, np.random.default_rng(0).permutation(8)]
    assert score("fvd_sprites", shuffled, real) > 5 * score("fvd_sprites", others, real)
    assert score("frame_difference_sprites", shuffled, real) > 1.1 * score("frame_difference_sprites", others, real)


def test_frozen_clips_have_no_frame_difference(real: np.ndarray, others: np.ndarray) -> None:
    assert score("frame_difference_sprites", np.repeat(others[:, :1], 8, axis=1), real) == 0
    assert score("frame_difference_sprites", real, real) == 1


def test_few_repeated_clips_lose_recall(real: np.ndarray, others: np.ndarray) -> None:
    assert score("recall_sprites", others[np.arange(192) % 24], real) < 0.05


def test_wrong_colours_move_the_pixel_distance(real: np.ndarray, others: np.ndarray) -> None:
    tinted = np.clip(others * np.array([1.2, 1.0, 0.8]), 0, 255).astype(np.uint8)
    assert score("pixel_distance_sprites", tinted, real) > 2 * score("pixel_distance_sprites", others, real)


def test_accuracy_is_one_where_the_class_is_right(real: np.ndarray) -> None:
    labels = [data.label(data.REFERENCE_FIRST + i) for i in range(48)]
    right = [accuracy(clip, label) for clip, label in zip(real, labels, strict=False)]
    wrong = [accuracy(clip, (label + 5) % 12) for clip, label in zip(real, labels, strict=False)]
    assert set(right) | set(wrong) <= {0.0, 1.0}
    assert np.mean(right) > 0.9
    assert np.mean(wrong) < 0.1


def test_accuracy_does_not_depend_on_chunks(real: np.ndarray) -> None:
    assert [accuracy(real[0], 0, chunk) for chunk in (1, 5, 8)] == [accuracy(real[0], 0)] * 3


def test_accuracy_needs_the_class(real: np.ndarray) -> None:
    scorer: ClipScorer = registry.card("accuracy_sprites").load("cpu")  # type: ignore[assignment]
    for case in (None, Case(id="a", prompt="a square that slides")):
        with pytest.raises(StgEvalError, match="the class it was made for"):
            scorer.begin(INFO, case)


@pytest.mark.parametrize("extractor", [SpritesExtractor("cpu"), PixelExtractor()])
def test_clips_of_another_size_are_refused(extractor: SpritesExtractor | PixelExtractor) -> None:
    assert list(extractor.frame_indices(8, 8.0)) == list(range(8))
    with pytest.raises(StgEvalError, match="clips of 8 frames and this one has 16"):
        extractor.frame_indices(16, 8.0)
    with pytest.raises(StgEvalError, match=r"clips of 8x16x16, not \[8, 32, 32, 3\]"):
        extractor.extract([np.zeros((8, 32, 32, 3), np.uint8)])
    with pytest.raises(StgEvalError, match="clips of 8x16x16"):
        accuracy(np.zeros((24, 16, 16, 3), np.uint8), 0)


def test_pixel_features_are_cell_averages_and_the_mean_difference() -> None:
    clip = np.zeros((8, 16, 16, 3), np.uint8)
    clip[4:, 0:4, 12:16, 1] = 255  # later half, first row, last column, green
    features = PixelExtractor().extract([clip])[0]
    cells = features[:-1].reshape(2, 4, 4, 3)
    assert cells[1, 0, 3, 1] == 1
    assert cells.sum() == 1
    assert features[-1] == pytest.approx(255 / (16 * 3 * 7))


def test_recall_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y, k = rng.normal(size=(30, 3)), rng.normal(size=(20, 3)) * 2, 3
    inside = 0
    for real in y:
        for generated in x:
            others = sorted(np.linalg.norm(x - generated, axis=1))  # the first is the clip itself
            if np.linalg.norm(real - generated) <= others[k]:
                inside += 1
                break
    assert 0 < inside < 20
    assert improved_recall(x, y, k=k) == inside / 20


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(7, 40), st.integers(1, 40), st.integers(1, 8))
def test_recall_is_a_share_and_complete_for_a_set_itself(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    assert 0 <= improved_recall(x, y) <= 1
    assert improved_recall(x, x) == 1
    assert improved_recall(x, y + 1000) == 0
    with pytest.raises(StgEvalError, match="more than 5 clips and has 5"):
        improved_recall(x[:5], y)


def test_network_is_in_evaluation_mode_without_gradients() -> None:
    network = SpritesExtractor("cpu").network
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert torch.get_default_dtype() == torch.float32
