"""The dimensions of VBench-I2V give the official scores."""

from __future__ import annotations

import hashlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stg_eval.metrics.decoding import score_clips
from stg_eval.metrics.vbench import dino, import_vbench
from stg_eval.metrics.vbench.i2v_subject import I2VSubject
from stg_eval.types import Case

pytestmark = pytest.mark.filterwarnings("ignore")  # the official loops warn a lot


@pytest.fixture(scope="module")
def dino_file(save_random: Any) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    return save_random("dino-i2v.pth", VisionTransformer(embed_dim=64, depth=2, num_heads=1, num_classes=0))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    noise = np.random.default_rng(5).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    path = tmp_path / "first.png"
    Image.fromarray(noise).resize((320, 180)).save(path)
    return path


def score_one(scorer: Any, clip: Path, image: Path | None) -> Any:
    digest = image and hashlib.sha256(image.read_bytes()).hexdigest()
    case = Case(id="x", prompt="p", image=image and str(image), image_sha256=digest)
    (outcome,) = score_clips([(clip, case)], {"it": scorer}, {})
    return outcome


def test_i2v_subject_is_the_official_one(official, dino_file, clip_path, image, monkeypatch) -> None:
    official("utils")
    monkeypatch.setitem(sys.modules, "dreamsim", types.SimpleNamespace(dreamsim=None))
    module = import_vbench("vbench2_beta_i2v.i2v_subject")
    network = dino.load_dino(dino_file, "cpu")
    expected, _ = module.i2v_subject(network, [(str(image), str(clip_path))], "cpu")
    outcome = score_one(I2VSubject(dino_file, "cpu"), clip_path, image)
    assert outcome.problems == {}
    assert outcome.values["it"] == pytest.approx(float(expected), abs=1e-6)


def test_a_clip_without_its_image_says_so(dino_file, make_clip) -> None:
    outcome = score_one(I2VSubject(dino_file, "cpu"), make_clip(3), None)
    assert outcome.problems == {
        "it": "i2v_subject compares a clip with the image that it started from, and there is none"
    }
