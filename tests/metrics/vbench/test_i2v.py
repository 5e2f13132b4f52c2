"""The dimensions of VBench-I2V give the official scores."""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stg_eval.metrics.decoding import score_clips
from stg_eval.metrics.vbench import camera_motion, dino, i2v_background, i2v_subject, import_vbench
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"

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


def test_i2v_subject_is_the_official_one(official, agree, dino_file, clip_path, image, monkeypatch) -> None:
    official("utils")
    monkeypatch.setitem(sys.modules, "dreamsim", types.SimpleNamespace(dreamsim=None))
    module = import_vbench("vbench2_beta_i2v.i2v_subject")
    network = dino.load_dino(dino_file, "cpu")
    expected, _ = module.i2v_subject(network, [(str(image), str(clip_path))], "cpu")
    outcome = score_one(i2v_subject.scorer(dino_file, "cpu"), clip_path, image)
    assert outcome.problems == {}
    agree("i2v_subject", clip_path, expected, outcome.values["it"], 1e-6)


def test_a_clip_without_its_image_says_so(dino_file, make_clip) -> None:
    outcome = score_one(i2v_subject.scorer(dino_file, "cpu"), make_clip(3), None)
    assert outcome.problems == {
        "it": "i2v_subject compares a clip with the image that it started from, and there is none"
    }


def drawn(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Tensors that anyone can draw again."""
    import torch

    rng, state = np.random.default_rng(0), {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        value = rng.normal(size=shape) / math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else 100)
        if len(shape) == 1 and name.endswith("weight"):
            value = value + 1  # of a normalisation
        if name.endswith(("pos_embed", "cls_token")):
            value = rng.normal(size=shape) / 2
        state[name] = torch.from_numpy(np.asarray(3 * value if name.startswith("lora") else value, np.float32))
    return state


@pytest.fixture(scope="module")
def dreamsim_files(tmp_path_factory) -> tuple[Checkpoint, Checkpoint]:
    """DreamSim made narrow and shallow, in the layout of the published archive."""
    import torch
    from safetensors.torch import save

    folder = tmp_path_factory.mktemp("dreamsim")
    state = drawn(json.loads((GOLDEN / "dreamsim.json").read_text())["shapes"])

    def part(name: str) -> dict[str, Any]:
        return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}

    torch.save(part("dino"), folder / "dino.pth")
    with zipfile.ZipFile(folder / "dreamsim_ensemble_checkpoint.zip", "w") as archive:
        for name in ("clip", "open_clip"):
            torch.save({"state_dict": part(name)}, file := io.BytesIO())
            archive.writestr(f"{name}_vitb16_pretrain.pth.tar", file.getvalue())
        archive.writestr("ensemble_lora/adapter_model.safetensors", save(part("lora")))
        archive.writestr("ensemble_lora/adapter_config.json", json.dumps({"r": 16, "lora_alpha": 0.5}))
    names = ("dino.pth", "dreamsim_ensemble_checkpoint.zip")
    return Checkpoint(folder / names[0], "0" * 64), Checkpoint(folder / names[1], "1" * 64)


def test_dreamsim_s_embeddings_are_the_original_s(dreamsim_files) -> None:
    """Recorded from dreamsim 0.2.1 with peft 0.18, its networks made shallow."""
    import torch

    from stg_eval.metrics.vbench.dreamsim import load_dreamsim

    small = torch.from_numpy(np.random.default_rng(1).random((3, 3, 7, 8), np.float32))
    images = small.repeat_interleave(32, 2).repeat_interleave(28, 3)
    with torch.inference_mode():
        ours = load_dreamsim(*dreamsim_files, "cpu")(images).numpy()
    recorded = json.loads((GOLDEN / "dreamsim.json").read_text())["embeddings"]
    assert np.abs(ours - recorded).max() < 1e-6
    assert np.abs(ours[0] - ours[2]).max() > 0.05


def test_an_adapter_that_has_no_place_is_refused() -> None:
    import torch

    from stg_eval.metrics.vbench.dreamsim import adapt

    with pytest.raises(ValueError, match=r"mlp\.fc1\.lora_A"):
        adapt([{}], {"base_model.model.mlp.fc1.lora_A.weight": torch.zeros(1)}, 1.0)


@pytest.mark.clips({"num_frames": 2, "height": 120, "width": 160}, {"num_frames": 7, "height": 240, "width": 246})
def test_i2v_background_is_the_official_one(official, agree, dreamsim_files, clip_path, image, monkeypatch) -> None:
    """The official loop around our DreamSim, which is the original's by the test above."""
    from stg_eval.metrics.vbench.dreamsim import load_dreamsim

    official("utils")
    monkeypatch.setitem(sys.modules, "dreamsim", types.SimpleNamespace(dreamsim=None))
    module = import_vbench("vbench2_beta_i2v.i2v_background")
    network = types.SimpleNamespace(embed=load_dreamsim(*dreamsim_files, "cpu"))
    expected, _ = module.i2v_background(network, [(str(image), str(clip_path))], "cpu")
    outcome = score_one(i2v_background.scorer(*dreamsim_files, "cpu"), clip_path, image)
    assert outcome.problems == {}
    agree("i2v_background", clip_path, expected, outcome.values["it"], 1e-6)


@pytest.fixture
def official_camera(official, monkeypatch) -> Any:
    """The official module; what it imports for drawing tracks is in no package."""
    official("utils")
    for name in ("", ".cotracker", ".cotracker.utils", ".cotracker.utils.visualizer"):
        stub = types.ModuleType(f"vbench2_beta_i2v.third_party{name}")
        stub.Visualizer = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, stub.__name__, stub)
    return import_vbench("vbench2_beta_i2v.camera_motion")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edges=st.lists(st.tuples(*[st.sampled_from([-9, -3, 0, 2, 3, 9])] * 2), min_size=4, max_size=4))
def test_motions_are_the_official_ones(official_camera, edges) -> None:
    """At both sides of the threshold of 2.56 pixels at 512."""
    predictor = object.__new__(official_camera.CameraPredict)
    predictor.grid_size, predictor.number_points, predictor.scale = 10, 1, 512
    start, last = np.zeros((10, 10, 2), np.int64), np.zeros((10, 10, 2), np.int64)
    for place, move in zip(((0, 5), (9, 5), (5, 0), (5, 9)), edges, strict=True):
        last[place] = move
    expected = {motion for motion in predictor.camera_classify(start, last) if motion != "None"}
    assert camera_motion.motions(last - start, 512) == expected


def test_what_is_asked_of_the_camera_is_read_as_officially(official_camera) -> None:
    for words, motion in camera_motion.MOTIONS.items():
        prompt = f"a street at night, {words}"
        assert camera_motion.asked(prompt) == motion == official_camera.get_type(prompt)
    with pytest.raises(StgEvalError, match=r"camera pans left.*not 'a street'"):
        camera_motion.asked("a street")


def tracker_state(shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Moves are small, since the sines of large ones would enlarge any rounding."""
    return {name: 0.003 * value if "flow_head" in name else value for name, value in drawn(shapes).items()}


def moving_blocks(num_frames: int) -> np.ndarray:
    blocks = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 3, 6, 7))
    return np.kron(blocks, np.ones((1, 1, 16, 16))).astype(np.float32)


def test_tracks_are_the_original_s() -> None:
    """Recorded from facebookresearch/co-tracker's cotracker2 made shallow: nine frames are two windows."""
    import torch

    from stg_eval.metrics.vbench.cotracker import CoTracker, Tracks

    recorded = json.loads((GOLDEN / "cotracker.json").read_text())
    network = CoTracker(tracker_state(recorded["shapes"])).eval()
    with torch.inference_mode():
        tracks = Tracks(network, 10)
        tracks.update(torch.from_numpy(moving_blocks(9)))
        start, last = tracks.end()
    assert np.allclose(start.numpy(), recorded["start"], atol=1e-3)
    assert np.allclose(last.numpy(), recorded["last"], atol=5e-3)
    assert np.abs(last.numpy() - start.numpy()).max() > 0.05
