"""PSNR, SSIM and LPIPS of two clips are those of the field's own tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.image.lpips import _LPIPS

from stg_eval.metrics import registry
from stg_eval.metrics.paired import lpips, psnr, ssim
from stg_eval.types import StgEvalError
from stg_eval.weights import Checkpoint


def clips(height: int = 72, width: int = 90, num_frames: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    smooth = np.repeat(np.repeat(rng.integers(0, 256, (num_frames, height // 9, width // 9, 3)), 9, 1), 9, 2)
    noise = rng.normal(0, 12, smooth.shape)
    return np.clip(smooth + noise, 0, 255).astype(np.uint8), smooth.astype(np.uint8)


def test_psnr_is_scikit_images_and_ssim_torchmetrics() -> None:
    ours, partner = clips()
    expected = [peak_signal_noise_ratio(b, a, data_range=255) for a, b in zip(ours, partner, strict=True)]
    assert psnr.PSNR().score(ours, partner) == pytest.approx(expected, rel=1e-12)
    a, b = (torch.from_numpy(side).permute(0, 3, 1, 2).double() for side in (ours, partner))
    similarity = structural_similarity_index_measure(a, b, data_range=255.0, reduction="none").numpy()
    assert ssim.SSIM().score(ours, partner) == pytest.approx(similarity, abs=1e-7)


def test_equal_clips_are_as_alike_as_can_be() -> None:
    ours, _ = clips()
    assert psnr.PSNR().score(ours, ours).tolist() == [100.0] * 3
    assert ssim.SSIM().score(ours, ours) == pytest.approx([1.0] * 3)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AlexNet's file with random weights."""
    path = tmp_path_factory.mktemp("alexnet") / lpips.ALEXNET.file
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), path)
    return path


@pytest.mark.parametrize("size", [(72, 90), (64, 64), (135, 63)])
def test_lpips_is_torchmetrics_on_the_same_network(alexnet: Path, size: tuple[int, int]) -> None:
    oracle = _LPIPS(pretrained=True, net="alex", pnet_rand=True, use_dropout=True, eval_mode=True)
    whole = torchvision.models.alexnet(weights=None)
    whole.load_state_dict(torch.load(alexnet))
    slices = [layer for part in range(1, 6) for layer in getattr(oracle.net, f"slice{part}")]
    for theirs, ours in zip(slices, whole.features, strict=False):
        theirs.load_state_dict(ours.state_dict())
    frames, partner = clips(*size, num_frames=5)
    with torch.inference_mode():
        a, b = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (frames, partner))
        expected = oracle(a, b).flatten().tolist()
    scorer = lpips.LPIPS(Checkpoint(alexnet, "0123456789"), "cpu", batch=2)
    assert scorer.score(frames, partner) == pytest.approx(expected, rel=1e-5)
    assert min(expected) > 1e-4
    assert scorer.score(frames, frames) == pytest.approx([0.0] * 5, abs=1e-9)
    assert scorer.signature == "lpips|alex-v0.1|alexnet:01234567|frames|float32|v1"


def test_frames_too_small_for_a_window_are_refused(alexnet: Path) -> None:
    small = np.zeros((2, 10, 80, 3), np.uint8)
    with pytest.raises(StgEvalError, match="at least 11 x 11"):
        ssim.SSIM().score(small, small)
    with pytest.raises(StgEvalError, match="at least 63 x 63"):
        lpips.LPIPS(Checkpoint(alexnet, "0123456789"), "cpu").score(small, small)


def test_cards_of_pairs_load_pairs_alone() -> None:
    for name in ("psnr", "ssim", "lpips"):
        card = registry.card(name)
        assert card.kind == "clip"
        with pytest.raises(StgEvalError, match="scores no single clips"):
            registry.load(card, "cpu")
    assert registry.load_pair(registry.card("psnr"), "cpu").signature.startswith("psnr|")
