"""STDiT3, the denoiser of Open-Sora 1.2: pairs of spatial and temporal transformer blocks over video latents.

Parameter names are those of the published checkpoint (hub: hpcai-tech/OpenSora-STDiT-v3), so it loads without a
conversion. Tokens travel as [B, T, S, C]: T latent frames of S patches. Timesteps, rotary angles and position
embeddings are computed in float32 whatever the dtype of the weights; bfloat16 would round 966.67 to 968.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import (
    apply_rotary_emb,
    get_1d_rotary_pos_embed,
    get_1d_sincos_pos_embed_from_grid,
    get_timestep_embedding,
)
from diffusers.models.normalization import RMSNorm
from torch import Tensor, nn

from stg_eval.generators.opensora.checkpoint import load_checkpoint

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine, each float32 [T, head_dim]."""


class Mlp(nn.Module):
    def __init__(self, in_features: int, hidden_features: int, out_features: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.fc2 = nn.Linear(hidden_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Attention(nn.Module):
    """Self-attention over [N, L, C] with normalised queries and keys; rotary positions where `rope` is given."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.q_norm = RMSNorm(hidden_size // num_heads, eps=1e-6)
        self.k_norm = RMSNorm(hidden_size // num_heads, eps=1e-6)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, rope: Rotary | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = apply_rotary_emb(q, rope), apply_rotary_emb(k, rope)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention from video tokens [B, N, C] to text tokens [B, L, C]; `mask` is bool [B, 1, 1, L], True = attend."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_linear = nn.Linear(hidden_size, hidden_size)
        self.kv_linear = nn.Linear(hidden_size, 2 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        q = self.q_linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k, v = self.kv_linear(text).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class STDiT3Block(nn.Module):
    """Self-attention within each frame (spatial) or along time at each patch (temporal), text, then MLP."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_ratio: float, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.norm1 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.attn = Attention(hidden_size, num_heads)
        self.cross_attn = CrossAttention(hidden_size, num_heads)
        self.norm2 = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio), hidden_size)
        self.scale_shift_table = nn.Parameter(torch.randn(6, hidden_size) / hidden_size**0.5)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor | None, modulation: Tensor, rope: Rotary) -> Tensor:
        """x [B, T, S, C] -> the same. `modulation` is [B, T or 1, 6, C]: per frame where some frames are given."""
        batch, num_frames = x.shape[:2]
        parts = (self.scale_shift_table + modulation)[:, :, None].unbind(3)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = parts

        h = self.norm1(x) * (1 + scale_attn) + shift_attn
        if self.temporal:
            h = self.attn(h.transpose(1, 2).flatten(0, 1), rope).unflatten(0, (batch, -1)).transpose(1, 2)
        else:
            h = self.attn(h.flatten(0, 1)).unflatten(0, (batch, num_frames))
        x = x + gate_attn * h
        x = x + self.cross_attn(x.flatten(1, 2), text, text_mask).unflatten(1, (num_frames, -1))
        h = self.norm2(x) * (1 + scale_mlp) + shift_mlp
        return x + gate_mlp * self.mlp(h)


class PatchEmbed(nn.Module):
    """Latents [B, C, T, H, W] -> tokens [B, T', H', W', hidden]; pads right and below to whole patches."""

    def __init__(self, patch_size: tuple[int, int, int], in_channels: int, hidden_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_channels, hidden_size, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        pads = [-size % patch for size, patch in zip(x.shape[2:], self.proj.kernel_size, strict=True)]
        return self.proj(F.pad(x, (0, pads[2], 0, pads[1], 0, pads[0]))).permute(0, 2, 3, 4, 1)


class ScalarEmbedder(nn.Module):
    """A scalar per row (timestep on the scale 0..1000, or frames per second) -> [B, hidden]."""

    def __init__(self, hidden_size: int, num_frequencies: int = 256) -> None:
        super().__init__()
        self.num_frequencies = num_frequencies
        self.mlp = nn.Sequential(
            nn.Linear(num_frequencies, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, value: Tensor) -> Tensor:
        waves = get_timestep_embedding(
            value.float(), self.num_frequencies, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        return self.mlp(waves.to(self.mlp[0].weight.dtype))


class CaptionEmbedder(nn.Module):
    """Projects text features; holds the learned null text that stands for "no prompt"."""

    def __init__(self, in_channels: int, hidden_size: int, max_length: int) -> None:
        super().__init__()
        self.y_proj = Mlp(in_channels, hidden_size, hidden_size)
        self.register_buffer("y_embedding", torch.randn(max_length, in_channels) / in_channels**0.5)

    def forward(self, text: Tensor) -> Tensor:
        return self.y_proj(text)


class FinalLayer(nn.Module):
    def __init__(self, hidden_size: int, out_features: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden_size, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(hidden_size, out_features)
        self.scale_shift_table = nn.Parameter(torch.randn(2, hidden_size) / hidden_size**0.5)

    def forward(self, x: Tensor, t: Tensor, t_zero: Tensor | None, frame_mask: Tensor | None) -> Tensor:
        """x [B, T, S, C], t and t_zero [B, C], frame_mask bool [B, T]."""
        x = self._modulate(x, t)
        if frame_mask is not None and t_zero is not None:
            # Given frames are normalised a second time, as in the original; samplers ignore their prediction.
            x = torch.where(frame_mask[:, :, None, None], x, self._modulate(x, t_zero))
        return self.linear(x)

    def _modulate(self, x: Tensor, t: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + t[:, None])[:, None, None].unbind(3)
        return self.norm_final(x) * (1 + scale) + shift


class Rope(nn.Module):
    """Holds the checkpoint's rotary frequencies under their name. They are the textbook ones, and `angles` computes
    those anew: a model cast to bfloat16 would otherwise turn frame 15 by 0.04 radians too far or too little."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.register_buffer("freqs", 10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim))

    def angles(self, num_frames: int) -> Rotary:
        cos, sin = get_1d_rotary_pos_embed(self.head_dim, num_frames, use_real=True)
        return cos, sin


def position_embedding(hidden_size: int, grid: tuple[int, int], scale: float, base_size: int) -> Tensor:
    """Return sine and cosine features of each patch's column and row, float32 [rows * columns, hidden_size].

    Positions are stretched to `base_size` patches a side and divided by `scale` (clip size over 512), so that one
    model serves every size.
    """
    rows, columns = grid
    row_features, column_features = (
        get_1d_sincos_pos_embed_from_grid(hidden_size // 2, torch.arange(n) * (base_size / n / scale), "pt")
        for n in (rows, columns)
    )
    column_part = column_features[None].expand(rows, -1, -1)
    row_part = row_features[:, None].expand(-1, columns, -1)
    return torch.cat([column_part, row_part], dim=-1).flatten(0, 1).float()


class STDiT3(ModelMixin, ConfigMixin):
    """The Open-Sora 1.2 transformer. The defaults are STDiT3-XL/2, the released model."""

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        input_sq_size: int = 512,
        pred_sigma: bool = True,
    ) -> None:
        super().__init__()
        self.out_channels = in_channels * (2 if pred_sigma else 1)
        self.rope = Rope(hidden_size // num_heads)
        frames, rows, columns = patch_size
        self.x_embedder = PatchEmbed((frames, rows, columns), in_channels, hidden_size)
        self.t_embedder = ScalarEmbedder(hidden_size)
        self.fps_embedder = ScalarEmbedder(hidden_size)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(hidden_size, 6 * hidden_size))
        self.y_embedder = CaptionEmbedder(caption_channels, hidden_size, model_max_length)
        self.spatial_blocks = nn.ModuleList(
            STDiT3Block(hidden_size, num_heads, mlp_ratio, temporal=False) for _ in range(depth)
        )
        self.temporal_blocks = nn.ModuleList(
            STDiT3Block(hidden_size, num_heads, mlp_ratio, temporal=True) for _ in range(depth)
        )
        self.final_layer = FinalLayer(hidden_size, math.prod(patch_size) * self.out_channels)

    @classmethod
    def from_pretrained(cls, source: str | Path, torch_dtype: torch.dtype = torch.float32) -> STDiT3:
        """Load a local folder or a hub id (`owner/name@revision`) in the published layout: config.json and
        model.safetensors, in one file or in shards. Raises StgEvalError where it is not an Open-Sora transformer."""
        return load_checkpoint(cls, source, model_type="STDiT3", torch_dtype=torch_dtype)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
        *,
        fps: Tensor,
        height: int,
        width: int,
        frame_mask: Tensor | None = None,
    ) -> Tensor:
        """Predict x0 - noise.

        hidden_states: latents [B, C, T, H, W], any H and W. timestep: float [B], 0..1000. encoder_hidden_states: text
        features [B, L, caption_channels]. encoder_attention_mask: [B, L], nonzero = attend; it selects tokens and may
        have holes. fps: [B], frames per second of the clip (120 for images). height, width: size of the clip in
        pixels, which scales the position embedding. frame_mask: bool [B, T], False = a given, noise-free frame.
        Returns float32 [B, 2C, T, H, W]: the prediction, then C channels that the rectified flow does not use.
        """
        size = hidden_states.shape[2:]
        x = self.x_embedder(hidden_states.to(self.dtype))
        grid = (x.shape[2], x.shape[3])
        scale = math.sqrt(height * width) / self.config.input_sq_size
        positions = position_embedding(x.shape[-1], grid, scale, base_size=round(math.sqrt(grid[0] * grid[1])))
        x = x.flatten(2, 3) + positions.to(x.device, x.dtype)

        fps_embedding = self.fps_embedder(fps)
        t, t_zero = self.t_embedder(timestep) + fps_embedding, None
        modulation = self.t_block(t).unflatten(-1, (1, 6, -1))
        if frame_mask is not None:
            t_zero = self.t_embedder(torch.zeros_like(timestep)) + fps_embedding
            zero_modulation = self.t_block(t_zero).unflatten(-1, (1, 6, -1))
            modulation = torch.where(frame_mask[:, :, None, None], modulation, zero_modulation)

        text = self.y_embedder(encoder_hidden_states.to(self.dtype))
        text_mask = None if encoder_attention_mask is None else encoder_attention_mask.bool()[:, None, None, :]
        cos, sin = self.rope.angles(x.shape[1])
        rope = (cos.to(x.device), sin.to(x.device))
        for spatial_block, temporal_block in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            x = spatial_block(x, text, text_mask, modulation, rope)
            x = temporal_block(x, text, text_mask, modulation, rope)
        return self._unpatchify(self.final_layer(x, t, t_zero, frame_mask), grid, size).float()

    def _unpatchify(self, x: Tensor, grid: tuple[int, int], size: torch.Size) -> Tensor:
        """Map tokens [B, T', H'W', patch * C] -> [B, C, T, H, W], cropped to `size`."""
        x = x.unflatten(-1, (*self.config.patch_size, -1)).unflatten(2, grid)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, : size[0], : size[1], : size[2]]
