"""ViCLIP (Wang et al., InternVid, ICLR 2024): CLIP ViT-L/14 for clips.

Source: vbench 0.1.5, vbench/third_party/ViCLIP. The image half takes the patches of 8 frames together, the text half
reads 32 tokens; both are transformers' CLIP under other names.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from stg_eval import weights
from stg_eval.metrics.vbench import clip


class ViCLIP(nn.Module):
    """Frames [8, 3, 224, 224], normalised -> feature [1, 768] of the clip; `text` is the text half."""

    def __init__(self, state: dict[str, Tensor], device: str) -> None:
        super().__init__()
        flat = state["vision_encoder.conv1.weight"][:, :, 0]  # a 3-D kernel, one frame deep
        state = state | {"vision_encoder.conv1.weight": flat}
        self.vision = clip.only_class_token(clip.vision(clip.vision_from_openai(state, "vision_encoder.")), device)
        self.text = clip.text(clip.text_from_openai(state, "text_encoder.")).to(device)
        self.num_tokens = len(state["text_encoder.positional_embedding"])
        self.times = state["vision_encoder.temporal_positional_embedding"].float().to(device)

    def forward(self, frames: Tensor) -> Tensor:
        model = self.vision.vision_model
        tokens = model.embeddings(pixel_values=frames)
        patches = tokens[:, 1:].transpose(0, 1) + self.times  # [patches, frames, width], as the original orders them
        tokens = model.pre_layrnorm(torch.cat([tokens[:1, 0], patches.flatten(0, 1)])[None])
        for layer in model.encoder.layers:
            tokens = layer(tokens, None)
        out: Tensor = self.vision.visual_projection(model.post_layernorm(tokens[:, 0]))
        return out


@lru_cache(maxsize=1)  # both dimensions share it
def load_viclip(checkpoint: weights.Checkpoint, device: str) -> ViCLIP:
    """Return the network from the published file."""
    state: Any = weights.load_torch(checkpoint)["model"]
    return ViCLIP(dict(state), device).eval().requires_grad_(False)
