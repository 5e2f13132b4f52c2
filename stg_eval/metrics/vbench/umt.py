"""UMT: Unmasked Teacher ViT-L/16 fine-tuned on Kinetics-400 (Li et al., ICCV 2023), 16 frames of 224 x 224.

Source: vbench 0.1.5, vbench/third_party/umt: its network, with an attention that needs no large matrix.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import normalize

from stg_eval.metrics.vbench import import_vbench
from stg_eval.metrics.vbench.dino import MEAN, STD

FRAMES, SHORTER, SIZE, PATCH = 16, 256, 224, 16


def preprocess(frame: np.ndarray) -> Tensor:
    """Map frame uint8 [H, W, 3] -> [3, 224, 224]: shorter side 256 by OpenCV's bilinear, centre crop, ImageNet's
    scale."""
    height, width = frame.shape[:2]
    short = min(height, width)
    if short != SHORTER:
        size = (int(SHORTER * width / short), int(SHORTER * height / short))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    top, left = (round((side - SIZE) / 2.0) for side in frame.shape[:2])
    crop = np.ascontiguousarray(frame[top : top + SIZE, left : left + SIZE])
    out: Tensor = normalize(torch.from_numpy(crop).permute(2, 0, 1).float().div(255), MEAN, STD)
    return out


def network(state: Mapping[str, Tensor]) -> Any:
    """Return UMT's classifier from the published tensors; its size is read off them."""
    module = import_vbench("vbench.third_party.umt.models.modeling_finetune")
    width = state["fc_norm.weight"].shape[0]
    with redirect_stdout(io.StringIO()):  # it prints how it stretches its positions
        out = module.VisionTransformer(
            img_size=SIZE,
            patch_size=PATCH,
            embed_dim=width,
            depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
            num_heads=width // 64,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_classes=len(state["head.weight"]),
            all_frames=FRAMES,
            tubelet_size=1,
            use_mean_pooling=True,
            init_scale=0.001,
        )
    out.load_state_dict(state, strict=False)  # as officially: positions may be there or not
    for block in out.blocks:
        block.attn = _Attention(block.attn)
    return out.float().eval().requires_grad_(False)


class _Attention(nn.Module):
    """The block's attention without its matrix of 16 heads x 3136 x 3136, which takes 630 MB."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = attention.num_heads, attention.qkv, attention.proj
        zeros = torch.zeros_like(attention.v_bias)
        self.qkv.bias = nn.Parameter(torch.cat([attention.q_bias, zeros, attention.v_bias]), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out
