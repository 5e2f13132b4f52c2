"""Clips as other tools write them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def noise(num_frames: int = 9, height: int = 34, width: int = 50, seed: int = 0) -> np.ndarray:
    """Smooth moving colour, uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (num_frames, height // 8 + 2, width // 8 + 2, 3))
    return np.repeat(np.repeat(coarse, 8, 1), 8, 2)[:, :height, :width].astype(np.uint8)


def encode_with(
    path: Path, frames: np.ndarray, codec: str, pix_fmt: str, times: list[int] | None = None, **options: str
) -> Path:
    """A file as other tools write it."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.time_base = Fraction(1, 25)
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame.pts, frame.time_base = (times[i] if times else i), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session", name="noise")
def _noise() -> Callable[..., np.ndarray]:
    return noise


@pytest.fixture(scope="session", name="encode_with")
def _encode_with() -> Callable[..., Path]:
    return encode_with
