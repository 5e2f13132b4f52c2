"""What the rehearsals share: one clip of a model on a pretended GPU, and what must hold of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stg_eval import generators
from stg_eval.types import Case, Guidance, Request, StgEvalError

RANDOM = "random-weights(seed=0)"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def first_frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("first") / "first.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def small_request(first_frame: Path) -> Callable[..., Request]:
    """The smallest clip that a model makes with random weights, in as few steps as it can."""

    def make(name: str, guidance: str = "stg", dtype: str = "float32", **settings: Any) -> Request:
        model = generators.get(name)
        card, random = model.card, bool(model.smoke)
        image = first_frame if card.task == "image-to-video" else None
        request = Request(
            model=name,
            weights=RANDOM if random else card.weights,
            guidance=card.presets[guidance].guidance if guidance in card.presets else Guidance.parse(guidance),
            case=Case(
                id="x",
                prompt="a red ball" if random else "",
                label=None if random else 3,
                image=str(image) if image else None,
                image_sha256=hashlib.sha256(image.read_bytes()).hexdigest() if image else None,
            ),
            seed=0,
            height=64 if random else card.height,
            width=64 if random else card.width,
            num_frames=card.num_frames,
            fps=card.fps,
            num_inference_steps=max(1, model.min_steps),
            dtype=dtype,
            encoding=card.encoding,
            settings=tuple(sorted({**card.settings, **settings}.items())),
        )
        return replace(request, num_frames=_fewest_frames(request)) if random else request

    return make


def _fewest_frames(request: Request) -> int:
    for count in range(2, request.num_frames):
        try:
            generators.get(request.model).check(replace(request, num_frames=count))
        except StgEvalError:
            continue
        return count
    return request.num_frames


def clip(request: Request, device: str) -> np.ndarray:
    """Load the model on the device and make the clip."""
    model = generators.get(request.model)
    loaded = model.load(device=device, dtype=request.dtype, weights=request.weights, settings=dict(request.settings))
    (frames,) = loaded.generate([request])
    assert isinstance(frames, np.ndarray), frames
    return frames


@pytest.fixture(scope="session")
def on_cpu() -> Callable[[Request], np.ndarray]:
    """The clip that the CPU makes, made once."""
    return cache(lambda request: clip(request, "cpu"))


@pytest.fixture
def rehearse() -> Callable[..., np.ndarray]:
    """The clip, made on the second of two pretended GPUs: nothing may lie on the first."""
    from pretended_gpu import pretend

    def run(request: Request, device: str = "cuda:1") -> np.ndarray:
        with pretend(devices=2) as gpus:
            frames = clip(request, device)
        assert gpus.used == {device}, f"tensors lay on {gpus.used}, and the device is {device}"
        return frames

    return run
