"""What the VBench tests share: random weights in the official file formats, small clips, and the official loops."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import types
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks gain nothing from more, and the last bits of some sums depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Inputs and the values that the reference implementation returned for them."""

    def read(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return dict(np.load(GOLDEN / f"{name}.npz")), json.loads((GOLDEN / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def official() -> Callable[[str], Any]:
    """A module of vbench 0.1.5. Skips the test where the package is not installed."""
    pytest.importorskip("vbench", reason="vbench is not installed (pip install --no-deps vbench==0.1.5)")
    # openai-clip takes `packaging` from pkg_resources, which setuptools no longer has.
    sys.modules.setdefault("pkg_resources", types.SimpleNamespace(packaging=importlib.import_module("packaging")))
    importlib.import_module("packaging.version")

    def module(name: str) -> Any:
        from stg_eval.metrics.vbench import import_vbench

        return import_vbench(f"vbench.{name}")

    return module


def checkpoint(path: Path) -> Any:
    from stg_eval.weights import Checkpoint

    return Checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory, official) -> dict[str, Any]:
    """Checkpoints of the official networks with random weights, in the layout of the published files."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    amt = official("third_party.amt.networks.AMT-S").Model()
    torch.save({"state_dict": amt.state_dict()}, folder / "amt-s.pth")
    raft = official("third_party.RAFT.core.raft").RAFT(
        Namespace(small=False, mixed_precision=False, alternate_corr=False)
    )
    torch.save({f"module.{k}": v for k, v in raft.state_dict().items()}, folder / "raft-things.pth")
    from pyiqa.archs.musiq_arch import MUSIQ

    torch.save(MUSIQ(pretrained=False).state_dict(), folder / "musiq_spaq_ckpt-358bb6af.pth")
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=512,
            projection_dim=768,
            num_hidden_layers=3,
            num_attention_heads=2,
            patch_size=14,
            image_size=224,
        )
    )
    state = {k: v + 0.1 * torch.randn_like(v) for k, v in clip.state_dict().items()}
    save_file(state | {"logit_scale": torch.tensor(4.6), "text_projection.weight": torch.zeros(768, 128)}, folder / "c")
    (folder / "c").rename(folder / "model.safetensors")
    torch.save(torch.nn.Linear(768, 1).state_dict(), folder / "sa_0_4_vit_l_14_linear.pth")
    names = {
        "amt-s": "amt-s.pth",
        "raft-things": "raft-things.pth",
        "musiq-spaq": "musiq_spaq_ckpt-358bb6af.pth",
        "clip-vit-l-14": "model.safetensors",
        "laion-aesthetic": "sa_0_4_vit_l_14_linear.pth",
    }
    return {name: checkpoint(folder / file) for name, file in names.items()}


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory) -> Callable[..., Path]:
    """A textured plane that slides `speed` pixels a frame, as an H.264 mp4."""
    from stg_eval.video import write_video

    folder = tmp_path_factory.mktemp("clips")

    def make(
        num_frames: int = 6, height: int = 128, width: int = 144, fps: float = 8, speed: int = 3, seed: int = 0
    ) -> Path:
        path = folder / f"{num_frames}-{height}-{width}-{fps}-{speed}-{seed}.mp4"
        if not path.exists():
            rng, travel = np.random.default_rng(seed), speed * num_frames
            coarse = rng.uniform(0, 255, ((height + travel) // 8 + 1, (width + travel) // 8 + 1, 3))
            plane = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
            starts = [speed * i for i in range(num_frames)]
            frames = np.stack([plane[s : s + height, s : s + width] for s in starts])
            write_video(path, frames, fps, "h264-crf17")
        return path

    return make


@pytest.fixture(scope="session")
def score() -> Callable[[Any, Path], float]:
    """A scorer's value for one file, through the scoring loop."""
    from stg_eval.metrics.scoring import score_clips

    def run(scorer: Any, path: Path) -> float:
        (outcome,) = score_clips([(path, None)], {"it": scorer}, {})
        assert outcome.problems == {}, outcome.problems
        return outcome.values["it"]

    return run
