"""GRiT's eyes: a plain ViT with windows (ViTDet), and the five feature maps that are made of its last one.

Sources: vbench 0.1.5, vbench/third_party/grit_src/grit/modeling/backbone/vit.py; Li et al., "Exploring plain vision
transformer backbones for object detection", ECCV 2022. Parameters bear the names of the published checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH, WINDOW = 16, 14
STRIDES = (8, 16, 32, 64, 128)
"""Pixels a step of the five maps."""


class Backbone(nn.Module):
    """Image [1, 3, H, W] with sides that 32 divides, normalised -> feature maps at STRIDES.

    Args:
        state: The checkpoint's tensors under "backbone.", from which the sizes are read.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        out, width = state["fpn_stride16_conv1.weight"].shape[:2]
        self.bottom_up = _ViT(state, width)
        self.fpn_stride_16_8 = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)
        for stride in (8, 16, 32):
            for step, channels, kernel in ((1, width, 1), (2, out, 3)):
                conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
                setattr(self, f"fpn_stride{stride}_conv{step}", conv)
                setattr(self, f"fpn_stride{stride}_norm{step}", nn.LayerNorm(out))
        self.top_block = nn.ModuleDict({name: nn.Conv2d(out, out, 3, 2, 1) for name in ("p6", "p7")})

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.bottom_up(image)
        maps = [
            self._map(8, self.fpn_stride_16_8(features)),
            self._map(16, features),
            self._map(32, F.max_pool2d(features, 2)),
        ]
        maps.append(self.top_block["p6"](maps[-1]))
        maps.append(self.top_block["p7"](F.relu(maps[-1])))
        return maps

    def _map(self, stride: int, x: Tensor) -> Tensor:
        for step in (1, 2):
            x = getattr(self, f"fpn_stride{stride}_conv{step}")(x)
            x = getattr(self, f"fpn_stride{stride}_norm{step}")(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x


class _ViT(nn.Module):
    def __init__(self, state: dict[str, Tensor], width: int) -> None:
        super().__init__()
        depth = sum(key.endswith("attn.rel_pos_h") for key in state)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, PATCH, stride=PATCH)})
        self.pos_embed = nn.Parameter(torch.zeros_like(state["bottom_up.pos_embed"]))
        self.blocks = nn.ModuleList(
            _Block(width, len(state[f"bottom_up.blocks.{i}.attn.rel_pos_h"])) for i in range(depth)
        )

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed["proj"](image).permute(0, 2, 3, 1)
        side = round((self.pos_embed.shape[1] - 1) ** 0.5)
        positions = self.pos_embed[:, 1:].unflatten(1, (side, side))
        if x.shape[1:3] != (side, side):
            stretched = F.interpolate(positions.permute(0, 3, 1, 2), size=x.shape[1:3], mode="bicubic")
            positions = stretched.permute(0, 2, 3, 1)
        x = x + positions
        for block in self.blocks:
            x = block(x)
        out: Tensor = x.permute(0, 3, 1, 2)
        return out


class _Block(nn.Module):
    """A transformer's block on [n, H, W, D]; `offsets` is the length of its table of relative positions."""

    def __init__(self, width: int, offsets: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, offsets)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.windowed = offsets == 2 * WINDOW - 1

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + (_in_windows(self.attn, normed) if self.windowed else self.attn(normed))
        out: Tensor = x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return out


def _in_windows(attention: nn.Module, x: Tensor) -> Tensor:
    """Return attention inside windows of 14 x 14, those at the right and lower edge filled up with zeros."""
    height, width = x.shape[1:3]
    x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
    rows, columns = x.shape[1] // WINDOW, x.shape[2] // WINDOW
    windows = x.unflatten(2, (columns, WINDOW)).unflatten(1, (rows, WINDOW)).transpose(2, 3).flatten(0, 2)
    seen: Tensor = attention(windows).unflatten(0, (-1, rows, columns)).transpose(2, 3)
    return seen.flatten(3, 4).flatten(1, 2)[:, :height, :width]


class _Attention(nn.Module):
    """Attention over [n, H, W, D] with relative positions, apart for rows and columns."""

    def __init__(self, width: int, offsets: int) -> None:
        super().__init__()
        self.heads = width // 64
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(offsets, 64))
        self.rel_pos_w = nn.Parameter(torch.zeros(offsets, 64))

    def forward(self, x: Tensor) -> Tensor:
        count, height, width, _ = x.shape
        query, key, value = self.qkv(x).flatten(1, 2).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        grid = query.unflatten(2, (height, width))
        rows = torch.einsum("nhrcd,rkd->nhrck", grid, _offsets(self.rel_pos_h, height))
        columns = torch.einsum("nhrcd,ckd->nhrck", grid, _offsets(self.rel_pos_w, width))
        bias = (rows[..., :, None] + columns[..., None, :]).flatten(4).flatten(2, 3)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2).view(count, height, width, -1))
        return projected


def _offsets(table: Tensor, size: int) -> Tensor:
    """Return embeddings [size, size, 64] of the offsets between any two of `size` places, stretched from the table."""
    wanted = 2 * size - 1
    if len(table) != wanted:
        table = F.interpolate(table.T[None], size=wanted, mode="linear")[0].T
    places = torch.arange(size, device=table.device)
    return table[places[:, None] - places + size - 1]
