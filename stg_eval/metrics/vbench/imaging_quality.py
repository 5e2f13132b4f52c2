"""Imaging quality: mean MUSIQ-SPAQ score of the frames, here from 0 to 1.

Source: vbench 0.1.5, vbench/imaging_quality.py, whose videos have 0 to 100 and whose tables have 0 to 1. The network is
pyiqa's, see `stg_eval.metrics.vbench.musiq`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, batch_size, exact, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

MUSIQ = Weight(
    name="musiq-spaq",
    needed_by="metric imaging_quality",
    licence="Apache-2.0",
    size=109_000_000,
    sha256="358bb6af275e28ea56821d44fb55c6cb83645db11f394d3ad65b2d149965ab50",
    url="https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
    file="musiq_spaq_ckpt-358bb6af.pth",
)

LONGER_SIDE = 512

MUSIQ_PAPER = """@inproceedings{ke2021musiq,
  title = {{MUSIQ}: Multi-scale Image Quality Transformer},
  author = {Ke, Junjie and others},
  booktitle = {ICCV},
  year = {2021},
}"""


class ImagingQuality:
    """A `ClipScorer`: 0 to 1, higher is better. MUSIQ (Ke et al., ICCV 2021) trained on SPAQ."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str, batch: int | None = None) -> None:
        from stg_eval.metrics.vbench.musiq import load_musiq

        self._network = load_musiq(checkpoint, device)
        self._device, self._batch = device, batch
        self.signature = f"imaging_quality|vbench{VERSION}|musiq-spaq:{checkpoint.fingerprint}|longer512|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self._size = self._batch or batch_size(*resized(video.height, video.width), self._device)
        self._scores: list[Tensor] = []

    def update(self, frames: np.ndarray) -> None:
        from stg_eval.metrics.vbench.musiq import tokens

        with exact():
            for start in range(0, len(frames), self._size):
                images = preprocess(to_tensor(frames[start : start + self._size], self._device))
                self._scores.append(self._network(tokens(images, self._network.data_preprocess_opts))[:, 0])

    def end(self) -> float:
        import torch

        return torch.cat(self._scores).double().mean().item() / 100.0


def resized(height: int, width: int) -> tuple[int, int]:
    """Return height and width that MUSIQ sees: the longer side at most 512, the sides truncated and not rounded."""
    if max(height, width) <= LONGER_SIDE:
        return height, width
    scale = LONGER_SIDE / max(height, width)
    return int(scale * height), int(scale * width)


def preprocess(images: Tensor) -> Tensor:
    """Map images [n, 3, H, W], 0 to 255 -> 0 to 1, bilinear without antialias (VBench's `transform`, mode "longer")."""
    from torchvision.transforms.functional import resize

    height, width = images.shape[-2:]
    out: Tensor = resize(images, list(resized(height, width)), antialias=False) / 255.0
    return out


def load(device: str) -> ImagingQuality:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return ImagingQuality(weights.require(MUSIQ), device)


CARD = MetricCard(
    name="imaging_quality",
    title="Imaging Quality",
    short="IQ",
    higher_is_better=True,
    load=load,
    weights=(MUSIQ,),
    margin=0.004,
    citations=(VBENCH, MUSIQ_PAPER),
    note=DIMENSION,
)
