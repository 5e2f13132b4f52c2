"""Appearance style: CLIP ViT-B/32 similarity of each frame to the style that the prompt names, such as "oil painting".

Source: vbench 0.1.5, vbench/appearance_style.py. The frames go through Pillow's bicubic, which antialiases and rounds
to grey levels, unlike the tensors of the other CLIP dimensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION, exact
from stg_eval.metrics.vbench.background_consistency import CLIP_B_32, CLIP_PAPER
from stg_eval.metrics.vbench.prompts import auxiliary
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor

CLIP_VOCABULARY = Weight(
    name="clip-vocabulary",
    needed_by="metrics appearance_style, overall_consistency, temporal_style",
    licence="MIT",
    size=1_356_917,
    sha256="924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
    url="https://raw.githubusercontent.com/openai/CLIP/main/clip/bpe_simple_vocab_16e6.txt.gz",
    file="bpe_simple_vocab_16e6.txt.gz",
)

LENGTH = 77
"""Tokens of CLIP's text half."""


class AppearanceStyle:
    """A `ClipScorer`: about 0.15 to 0.3, higher is nearer to the style: the cosine times CLIP's scale over 100."""

    def __init__(self, checkpoint: weights.Checkpoint, vocabulary: weights.Checkpoint, device: str) -> None:
        from stg_eval.metrics.vbench import clip

        state = clip.read_openai(checkpoint)
        self._vision = clip.load_b_32(checkpoint, device)
        self._text = clip.text(clip.text_from_openai(state, "")).to(device)
        self._scale = state["logit_scale"].float().exp().to(device)
        self._vocabulary, self._device = vocabulary.path, device
        self.signature = f"appearance_style|vbench{VERSION}|clip-vit-b-32:{checkpoint.fingerprint}|float32|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        from torch.nn import functional as F

        from stg_eval.metrics.vbench import clip

        style = auxiliary("appearance_style", case)["appearance_style"]
        ids = clip.tokens(self._vocabulary, style, LENGTH).to(self._device)
        with exact():
            self._style = F.normalize(self._text(input_ids=ids).text_embeds, dim=-1)
        self._scores: list[Tensor] = []

    def update(self, frames: np.ndarray) -> None:
        import torch
        from torch.nn import functional as F

        from stg_eval.metrics.vbench.clip import BATCH

        with exact():
            for start in range(0, len(frames), BATCH):
                images = torch.stack([preprocess(frame) for frame in frames[start : start + BATCH]])
                features = F.normalize(self._vision(pixel_values=images.to(self._device)).image_embeds, dim=-1)
                self._scores.append((self._scale * features @ self._style.T)[:, 0])

    def end(self) -> float:
        import torch

        return torch.cat(self._scores).double().div(100).mean().item()


def preprocess(frame: np.ndarray) -> Tensor:
    """Map frame uint8 [H, W, 3] -> CLIP's input [3, 224, 224] (VBench's `clip_transform_Image`)."""
    from PIL import Image
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import center_crop, normalize, resize, to_tensor

    from stg_eval.metrics.vbench import clip

    image = resize(Image.fromarray(frame), clip.SIZE, interpolation=InterpolationMode.BICUBIC)
    out: Tensor = normalize(to_tensor(center_crop(image, clip.SIZE)), clip.MEAN, clip.STD)
    return out


def load(device: str) -> AppearanceStyle:
    """Return the scorer with the official weights. Raises StgEvalError where they are missing."""
    return AppearanceStyle(weights.require(CLIP_B_32), weights.require(CLIP_VOCABULARY), device)


CARD = MetricCard(
    name="appearance_style",
    title="Appearance Style",
    short="AS",
    higher_is_better=True,
    load=load,
    needs_case=True,
    weights=(CLIP_B_32, CLIP_VOCABULARY),
    margin=0.001,
    citations=(VBENCH, CLIP_PAPER),
    note=DIMENSION + " It needs VBench's prompts, which name the style; about 0.2 is usual.",
)
