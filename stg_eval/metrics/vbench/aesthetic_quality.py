"""Aesthetic quality: LAION's linear head on CLIP ViT-L/14 image features, a tenth of its mean over the frames.

Source: vbench 0.1.5, vbench/aesthetic_quality.py. CLIP is transformers'. The official code runs it in float16 on a GPU
and in float32 on a CPU; here it is float32 everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact, to_tensor
from stg_eval.metrics.vbench.background_consistency import CLIP_PAPER
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor, nn

CLIP_L_14 = Weight(
    name="clip-vit-l-14",
    needed_by="metric aesthetic_quality",
    licence="MIT",
    size=1_710_540_580,
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    repo="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    file="model.safetensors",
)

LAION = Weight(
    name="laion-aesthetic",
    needed_by="metric aesthetic_quality",
    licence="MIT",
    size=4_071,
    url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
    file="sa_0_4_vit_l_14_linear.pth",
)

BATCH = 32
"""As in the official loop; on a CPU one image keeps its cores busy and their caches warm."""

LAION_PAPER = """@inproceedings{schuhmann2022laion5b,
  title = {{LAION-5B}: An open large-scale dataset for training next generation image-text models},
  author = {Schuhmann, Christoph and others},
  booktitle = {NeurIPS Datasets and Benchmarks},
  year = {2022},
}"""


class AestheticQuality:
    """A `ClipScorer`: about 0 to 1, higher is better. The head was fitted to people's ratings from 1 to 10."""

    def __init__(
        self, clip: weights.Checkpoint, head: weights.Checkpoint, device: str, batch: int | None = None
    ) -> None:
        from stg_eval.metrics.vbench.clip import only_class_token, read_vision

        self._clip = only_class_token(read_vision(clip.path), device)
        self._head = linear_head(head).to(device)
        self._device, self._size = device, batch or (1 if device == "cpu" else BATCH)
        self.signature = (
            f"aesthetic_quality|vbench{VERSION}|clip-vit-l-14:{clip.fingerprint}|laion:{head.fingerprint}|float32|v1"
        )

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self._scores: list[Tensor] = []

    def update(self, frames: np.ndarray) -> None:
        from stg_eval.metrics.vbench.clip import preprocess

        with exact():
            for start in range(0, len(frames), self._size):
                images = preprocess(to_tensor(frames[start : start + self._size], self._device))
                self._scores.append(frame_scores(self._clip(pixel_values=images).image_embeds, self._head))

    def end(self) -> float:
        import torch

        return video_score(torch.cat(self._scores))


def frame_scores(features: Tensor, head: nn.Linear) -> Tensor:
    """Map CLIP features [n, 768] -> score of each frame, [n], 1 to 10."""
    from torch.nn import functional as F

    scores: Tensor = head(F.normalize(features.float(), dim=-1, p=2))[:, 0]
    return scores


def video_score(scores: Tensor) -> float:
    """Map scores of all frames -> score of the video."""
    return (scores / 10).mean().item()


def linear_head(checkpoint: weights.Checkpoint) -> nn.Linear:
    """Return LAION's predictor: one linear layer."""
    from torch import nn

    state = weights.load_torch(checkpoint)
    head = nn.Linear(state["weight"].shape[1], 1)
    head.load_state_dict(state)
    return head.eval().requires_grad_(False)


def load(device: str) -> AestheticQuality:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return AestheticQuality(weights.require(CLIP_L_14), weights.require(LAION), device)


CARD = MetricCard(
    name="aesthetic_quality",
    title="Aesthetic Quality",
    short="AQ",
    higher_is_better=True,
    load=load,
    weights=(
        CLIP_L_14,
        LAION,
    ),
    margin=0.001,
    citations=(VBENCH, LAION_PAPER, CLIP_PAPER),
    note=DIMENSION,
)
