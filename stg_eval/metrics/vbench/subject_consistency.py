"""Subject consistency: DINO features of each frame against those of the first and of the previous one.

Source: vbench 0.1.5, vbench/subject_consistency.py. Frames keep their shape: the shorter side becomes 224 pixels.
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

DINO = Weight(
    name="dino-vit-b-16",
    needed_by="metrics subject_consistency, i2v_subject, i2v_background",
    licence="Apache-2.0",
    size=343_000_000,
    url="https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    file="dino_vitbase16_pretrain.pth",
)

SIZE = 224

DINO_PAPER = """@inproceedings{caron2021dino,
  title = {Emerging Properties in Self-Supervised Vision Transformers},
  author = {Caron, Mathilde and others},
  booktitle = {ICCV},
  year = {2021},
}"""


class SubjectConsistency:
    """A `ClipScorer`: 0 to 1, higher is steadier; nan for one frame."""

    def __init__(self, checkpoint: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.vbench.dino import load_dino

        self._network, self._device = load_dino(checkpoint, device), device
        self.signature = f"subject_consistency|vbench{VERSION}|dino-vit-b-16:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from stg_eval.metrics.vbench.consistency import Similarities

        self._similarities = Similarities()
        self._size = batch_size(SIZE, SIZE, self._device)

    def update(self, frames: np.ndarray) -> None:
        with exact():
            for start in range(0, len(frames), self._size):
                images = preprocess(to_tensor(frames[start : start + self._size], self._device))
                self._similarities.update(self._network(images))

    def end(self) -> float:
        from stg_eval.metrics.vbench.consistency import consistency

        return consistency(self._similarities)


def preprocess(images: Tensor) -> Tensor:
    """Map images [n, 3, H, W], 0 to 255 -> DINO's input, shorter side 224 (VBench's `dino_transform`: no antialias)."""
    from torchvision.transforms.functional import normalize, resize

    from stg_eval.metrics.vbench.dino import MEAN, STD

    out: Tensor = normalize(resize(images, SIZE, antialias=False).div(255.0), MEAN, STD)
    return out


def load(device: str) -> SubjectConsistency:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return SubjectConsistency(weights.require(DINO), device)


CARD = MetricCard(
    name="subject_consistency",
    title="Subject Consistency",
    short="SC",
    higher_is_better=True,
    load=load,
    limits=(0.0, 1.0),
    weights=(DINO,),
    margin=0.001,
    citations=(VBENCH, DINO_PAPER),
    note=DIMENSION + " A still clip scores 1.",
)
