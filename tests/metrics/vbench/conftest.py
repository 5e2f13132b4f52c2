"""What the VBench tests share: golden values, small clips, and the scoring loop."""

from __future__ import annotations

import json
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
def make_clip(tmp_path_factory) -> Callable[..., Path]:
    """A textured plane that slides `speed` pixels a frame, as an H.264 mp4."""
    from stg_eval.storage.video import write_video

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
