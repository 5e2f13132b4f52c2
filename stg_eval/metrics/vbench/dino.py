"""DINO ViT-B/16 (Caron et al., ICCV 2021), with which VBench compares subjects.

Source: facebookresearch/dino, vision_transformer.py, as torch.hub gives it to vbench 0.1.5. The blocks are timm's,
which the published file fits name by name; the positions are stretched as in the original, which timm does otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval import weights
from stg_eval.metrics.linear import use_onednn

PATCH = 16
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


class Dino(nn.Module):
    """Images [n, 3, H, W], normalised -> features [n, D] of the class token, of any size from 16 pixels a side."""

    def __init__(self, parts: Any) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.parts.norm(self.tokens(x))[:, 0]
        return out

    def tokens(self, x: Tensor) -> Tensor:
        """Map images to what the last block gives, [n, 1 + N, D], before the last normalisation."""
        patches = self.parts.patch_embed.proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.parts.cls_token.expand(len(x), -1, -1), patches], dim=1)
        tokens = self.parts.norm_pre(tokens + positions(self.parts.pos_embed, x.shape[-2], x.shape[-1]))
        for block in self.parts.blocks:
            tokens = block(tokens)
        out: Tensor = tokens
        return out


def positions(table: Tensor, height: int, width: int) -> Tensor:
    """Map position embeddings [1, 1 + N, D] of a square -> [1, 1 + N', D] for an image of height x width pixels,
    bicubic.

    The original passes scale factors with 0.1 added, from which the sampling points follow: a size would move them. It
    does so for 224 x 230 pixels too, which make the same 14 x 14 patches as the square.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    rows, columns = height // PATCH, width // PATCH
    if height == width and rows * columns == side * side:
        return table
    grid = table[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    factors = ((rows + 0.1) / side, (columns + 0.1) / side)
    grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


@lru_cache(maxsize=1)  # subject consistency and i2v subject share it
def load_dino(checkpoint: weights.Checkpoint, device: str) -> Dino:
    """Return the network from the published file."""
    return build(weights.load_torch(checkpoint), device)


def build(state: Mapping[str, Tensor], device: str, **options: Any) -> Dino:
    """Return a network of DINO's layout from its tensors, off which its size is read; `options` are timm's."""
    width = state["cls_token"].shape[-1]
    with torch.device("meta"):  # no time for random weights that are replaced at once
        parts = VisionTransformer(
            img_size=PATCH * round((state["pos_embed"].shape[1] - 1) ** 0.5),
            patch_size=PATCH,
            embed_dim=width,
            depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
            num_heads=width // 64,
            num_classes=0,
            **options,
        )
        if "norm_pre.weight" in state:  # of a CLIP; timm's own option for it would take away the patches' bias
            parts.norm_pre = nn.LayerNorm(width, eps=1e-5)
    parts.load_state_dict(state, assign=True)
    network = Dino(parts).float().eval().requires_grad_(False).to(device)
    use_onednn(network, device)
    return network
