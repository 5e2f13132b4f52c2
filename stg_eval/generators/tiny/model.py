"""The embedded denoiser: a class-conditional, factorised spatial/temporal diffusion transformer in pixel space.

Laid out like Open-Sora's STDiT3: layer i is the pair (spatial_blocks[i], temporal_blocks[i]), each with self-attention
and an MLP under adaLN-zero (Peebles and Xie, 2023). It predicts the velocity of a rectified flow,
x_t = (1 - t) x_0 + t eps, v = eps - x_0, with t = 1 pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of the network; those of the shipped weights by default."""

    num_frames: int = 8
    height: int = 16
    width: int = 16
    patch_size: int = 4
    hidden_size: int = 96
    depth: int = 8
    num_heads: int = 3
    mlp_ratio: int = 3
    condition_size: int = 48
    num_classes: int = 12

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> TinyConfig:
        """Return the sizes of a checkpoint's network; what `train.py` has no option for is the default's.

        Raises KeyError for weights of something else.
        """
        heads = weights["spatial_blocks.0.attn.bias"].shape[0]
        return cls(hidden_size=weights["patch_in.weight"].shape[0], num_heads=heads)

    @property
    def num_patches(self) -> int:
        """Spatial tokens a frame."""
        return (self.height // self.patch_size) * (self.width // self.patch_size)


class Attention(nn.Module):
    """Self-attention with an additive table of position biases, [N', L, C] -> [N', L, C].

    The table starts with a large spread (0.5): without it the network learns the order of frames far too late.
    """

    def __init__(self, dim: int, num_heads: int, length: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias = nn.Parameter(0.5 * torch.randn(num_heads, length, length))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [N', L, C] -> [N', L, C]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        # A mask of four dimensions: torch has no fused kernel for one of three.
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias.to(q.dtype)[None])
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class SquaredReLU(nn.Module):
    """max(x, 0)^2 (So et al., 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x, inplace=True).square()


class Block(nn.Module):
    """Attention over the patches of a frame (spatial) or over the frames of a patch (temporal), then an MLP."""

    def __init__(self, config: TinyConfig, *, temporal: bool) -> None:
        super().__init__()
        dim = config.hidden_size
        self.temporal = temporal
        self.num_frames = config.num_frames
        self.attn = Attention(dim, config.num_heads, config.num_frames if temporal else config.num_patches)
        self.mlp = nn.Sequential(
            nn.Linear(dim, config.mlp_ratio * dim), SquaredReLU(), nn.Linear(config.mlp_ratio * dim, dim)
        )
        self.modulation = nn.Linear(config.condition_size, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map hidden states [B, T*S, C] and condition [B, D] -> hidden states [B, T*S, C]."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition)[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate_a, self._attend(_modulate(x, shift_a, scale_a)))
        return torch.addcmul(x, gate_m, self.mlp(_modulate(x, shift_m, scale_m)))

    def _attend(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = x.unflatten(1, (self.num_frames, -1))  # [B, T, S, C]
        if self.temporal:
            x = x.transpose(1, 2)  # frames of a patch lie together: [B, S, T, C]
        x = self.attn(x.flatten(0, 1)).unflatten(0, (batch, -1))
        if self.temporal:
            x = x.transpose(1, 2)
        return x.flatten(1, 2)


class TinyDiT(nn.Module):
    """The denoiser. `num_classes` (12) is the null class that classifier-free guidance uses."""

    def __init__(self, config: TinyConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TinyConfig()
        dim, pixels = config.hidden_size, 3 * config.patch_size**2
        self.patch_in = nn.Linear(pixels, dim)
        self.position_spatial = nn.Parameter(0.5 * torch.randn(config.num_patches, dim))
        self.position_temporal = nn.Parameter(0.5 * torch.randn(config.num_frames, 1, dim))
        self.time_embedder = nn.Sequential(
            nn.Linear(64, config.condition_size), nn.SiLU(), nn.Linear(config.condition_size, config.condition_size)
        )
        self.class_embedder = nn.Embedding(config.num_classes + 1, config.condition_size)
        self.spatial_blocks = nn.ModuleList(Block(config, temporal=False) for _ in range(config.depth))
        self.temporal_blocks = nn.ModuleList(Block(config, temporal=True) for _ in range(config.depth))
        self.modulation_out = nn.Linear(config.condition_size, 2 * dim)
        self.patch_out = nn.Linear(dim, pixels)
        for layer in (self.modulation_out, self.patch_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, latents: Tensor, timestep: Tensor, labels: Tensor) -> Tensor:
        """Return velocity at `latents`, same shape.

        Args:
            latents: noisy pixels [B, 3, T, H, W]; clean ones lie in [-1, 1].
            timestep: noise level [B], 0 (clean) to 1 (pure noise).
            labels: classes [B], int64, 0 to `num_classes`; the last is the null class.
        """
        time = self.time_embedder(_sinusoids(timestep).to(latents.dtype))
        condition = F.silu(time + self.class_embedder(labels))
        x = (self.patch_in(self._patches(latents)) + self.position_spatial + self.position_temporal).flatten(1, 2)
        for spatial, temporal in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = temporal(spatial(x, condition), condition)
        shift, scale = self.modulation_out(condition)[:, None].chunk(2, dim=-1)
        velocity: Tensor = self.patch_out(_modulate(x, shift, scale))
        return self._pixels(velocity)

    def _patches(self, latents: Tensor) -> Tensor:
        """Map [B, 3, T, H, W] -> [B, T, S, 3*p*p]."""
        p = self.config.patch_size
        x: Tensor = latents.unflatten(4, (-1, p)).unflatten(3, (-1, p))  # B, 3, T, H/p, p, W/p, p
        return x.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(2, 3)

    def _pixels(self, x: Tensor) -> Tensor:
        """Map [B, T*S, 3*p*p] -> [B, 3, T, H, W]."""
        c = self.config
        p = c.patch_size
        x = x.reshape(-1, c.num_frames, c.height // p, c.width // p, 3, p, p)  # B, T, H/p, W/p, 3, p, p
        return x.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1 + scale)


def _sinusoids(timestep: Tensor) -> Tensor:
    """Map [B] in [0, 1] -> [B, 64], wavelengths from 2 pi / 1000 up."""
    frequencies = torch.exp(-math.log(1000) * torch.arange(32, device=timestep.device) / 32)
    phase = 1000 * timestep.float()[:, None] * frequencies[None]
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
