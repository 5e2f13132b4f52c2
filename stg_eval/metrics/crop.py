"""The way frames of any size reach a network that takes squares."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def crop(frames: Tensor, resolution: int) -> Tensor:
    """Scale the shorter side to `resolution` (bilinear, antialiased) and crop the centre, as cd-fvd's loader does.

    Args:
        frames: uint8 [T, H, W, 3].

    Returns:
        uint8 [T, resolution, resolution, 3], cut off to whole numbers, not rounded.
    """
    height, width = frames.shape[1:3]
    scale = resolution / min(height, width)
    size = (resolution, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), resolution)
    x = frames.permute(0, 3, 1, 2).float() / 255
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)
    top, left = (size[0] - resolution) // 2, (size[1] - resolution) // 2
    x = x[..., top : top + resolution, left : left + resolution]
    return (x * 255).byte().permute(0, 2, 3, 1)
