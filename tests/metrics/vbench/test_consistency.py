"""Subject and background consistency give the official scores on clips of any length and shape."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.metrics.vbench import dino
from stg_eval.metrics.vbench.background_consistency import BackgroundConsistency
from stg_eval.metrics.vbench.consistency import Similarities, consistency
from stg_eval.metrics.vbench.subject_consistency import SubjectConsistency

pytestmark = pytest.mark.filterwarnings("ignore")  # the official loops warn a lot
GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def dino_file(save_random: Any) -> Any:
    """A narrow, shallow DINO in the layout of the published file, which is timm's."""
    from timm.models.vision_transformer import VisionTransformer

    return save_random("dino.pth", VisionTransformer(embed_dim=64, depth=2, num_heads=1, num_classes=0))


def test_subject_consistency_is_the_official_one(official, agree, score, dino_file, clip_path) -> None:
    network = dino.load_dino(dino_file, "cpu")
    expected, _ = official("subject_consistency").subject_consistency(network, [str(clip_path)], "cpu", False)
    agree("subject_consistency", clip_path, expected, score(SubjectConsistency(dino_file, "cpu"), clip_path), 1e-6)


def test_background_consistency_is_the_official_one(official, agree, score, clip_b32, clip_path) -> None:
    module = official("background_consistency")
    network, preprocess = module.clip.load(str(clip_b32.path), device="cpu")
    with torch.no_grad():
        expected, _ = module.background_consistency(network, preprocess, [str(clip_path)], "cpu", False)
    agree("background_consistency", clip_path, expected, score(BackgroundConsistency(clip_b32, "cpu"), clip_path), 1e-6)


def test_dino_gives_the_features_of_its_original(tmp_path) -> None:
    """Recorded from facebookresearch/dino with weights and images that anyone can draw again."""
    from stg_eval.weights import Checkpoint

    recorded = np.load(GOLDEN / "dino.npz")
    torch.save(dino_state(), tmp_path / "dino.pth")
    network = dino.load_dino(Checkpoint(tmp_path / "dino.pth", "1" * 64), "cpu")
    for name, expected in recorded.items():
        height, width = map(int, name.split("x"))
        image = torch.from_numpy(np.random.default_rng(7).normal(size=(1, 3, height, width)).astype(np.float32))
        with torch.inference_mode():
            assert torch.allclose(network(image), torch.from_numpy(expected), atol=2e-6), name


def dino_state() -> dict[str, torch.Tensor]:
    from timm.models.vision_transformer import VisionTransformer

    rng = np.random.default_rng(0)
    with torch.device("meta"):
        shapes = VisionTransformer(embed_dim=64, depth=2, num_heads=1, num_classes=0).state_dict()
    return {
        name: torch.from_numpy(rng.normal(scale=0.1, size=tuple(shapes[name].shape)).astype(np.float32))
        for name in sorted(shapes)
    }


@given(chunks=st.lists(st.integers(1, 5), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_chunks_of_any_size_give_one_consistency(chunks, seed) -> None:
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(sum(chunks), 8)).astype(np.float32))
    one, many = Similarities(), Similarities()
    one.update(features)
    for part in features.split(chunks):
        many.update(part)
    assert consistency(many) == pytest.approx(consistency(one), abs=1e-6, nan_ok=True)
    assert math.isnan(consistency(one)) == (len(features) == 1)


def test_a_still_clip_is_wholly_consistent(make_clip, score, dino_file, clip_b32) -> None:
    still = make_clip(num_frames=5, speed=0)
    for scorer in (SubjectConsistency(dino_file, "cpu"), BackgroundConsistency(clip_b32, "cpu")):
        assert score(scorer, still) > 0.999
