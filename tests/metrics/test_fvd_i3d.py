"""FVD on I3D hands the published TorchScript file what it expects, and its distance is that of `fvd`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stg_eval import weights
from stg_eval.metrics import fvd_i3d
from stg_eval.metrics.fvd import frechet_distance
from stg_eval.types import StgEvalError


class Stand(nn.Module):
    """The published file's way of being called, [N, 3, T, H, W] in 0 to 255 -> 400 numbers: means of what it gets."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        if resize:
            size = (x.shape[2], 224, 224)
            x = nn.functional.interpolate(x, size, mode="trilinear", align_corners=False)
        if rescale:
            x = 2 * x / 255 - 1
        features = x.mean(dim=[3, 4]).flatten(1)
        return features.repeat(1, 9)[:, :400] if return_features else features.softmax(1)


@pytest.fixture
def extractor(tmp_path: Path) -> fvd_i3d.I3DExtractor:
    torch.jit.script(Stand()).save(str(tmp_path / "i3d.pt"))
    network = torch.jit.load(tmp_path / "i3d.pt")
    return fvd_i3d.I3DExtractor(network, fingerprint="random", device="cpu", batch_size=2)


def test_frames_reach_the_file_as_colours_first_and_whole(extractor: fvd_i3d.I3DExtractor) -> None:
    clip = np.zeros((16, 32, 48, 3), np.uint8)
    clip[..., 0], clip[3, ..., 2] = 255, 51
    (features,) = extractor.extract([clip])
    red, green, blue = features[:48].reshape(3, 16)
    np.testing.assert_allclose(red, 1, atol=1e-6)
    np.testing.assert_allclose(green, -1, atol=1e-6)
    np.testing.assert_allclose(blue, np.where(np.arange(16) == 3, -0.6, -1), atol=1e-6)


def test_clips_of_several_sizes_and_batches_come_back_in_order(extractor: fvd_i3d.I3DExtractor) -> None:
    rng = np.random.default_rng(0)
    sizes = ((32, 48), (32, 48), (32, 48), (20, 20), (32, 48))
    clips = [rng.integers(0, 256, (16, *size, 3), dtype=np.uint8) for size in sizes]
    together = extractor.extract(clips)
    assert together.shape == (5, 400)
    np.testing.assert_allclose(together, np.concatenate([extractor.extract([clip]) for clip in clips]), atol=1e-6)
    assert extractor.extract([]).shape == (0, 400)


def test_card_loads_the_published_file_and_measures_the_frechet_distance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.jit.script(Stand()).save(str(tmp_path / "i3d.pt"))
    monkeypatch.setattr(weights, "require", lambda row: weights.Checkpoint(tmp_path / "i3d.pt", "0123456789"))
    metric = fvd_i3d.load("cpu")
    assert metric.signature == "FVD|i3d-k400|16f|224|01234567|n*|cov-n|v1"
    x, y = np.random.default_rng(0).normal(size=(2, 30, 5))
    assert fvd_i3d.CARD.of_set(x, y) == pytest.approx(frechet_distance(x, y))
    with pytest.raises(StgEvalError, match="16 frames and the clip has 8"):
        metric.extractor.frame_indices(8, 8.0)
