"""The temporal part of Open-Sora 1.2's autoencoder: a causal 3-D convolutional VAE, four frames to one latent frame.

The architecture follows MAGVIT-v2's causal encoder and decoder; the parameter names are the published checkpoint's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv3d(nn.Module):
    """3-D convolution padded on the past side of time only, and on all sides of space."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, time_stride: int = 1, bias: bool = True):
        super().__init__()
        past, side = kernel - time_stride, kernel // 2
        self.padding = (side, side, side, side, past, 0)
        self.conv = nn.Conv3d(channels_in, channels_out, kernel, stride=(time_stride, 1, 1), bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.padding))


class ResBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(num_groups, channels_in)
        self.conv1 = CausalConv3d(channels_in, channels_out, 3, bias=False)
        self.norm2 = nn.GroupNorm(num_groups, channels_out)
        self.conv2 = CausalConv3d(channels_out, channels_out, 3, bias=False)
        self.conv3 = CausalConv3d(channels_in, channels_out, 1, bias=False) if channels_in != channels_out else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv3 is None else self.conv3(x))


def _res_blocks(channels_in: int, channels_out: int, count: int, num_groups: int) -> nn.Sequential:
    inputs = [channels_in] + [channels_out] * (count - 1)
    return nn.Sequential(*(ResBlock(channels, channels_out, num_groups) for channels in inputs))


class Encoder(nn.Module):
    def __init__(
        self, channels: int, latent_channels: int, widths: Sequence[int], halve: Sequence[bool], depth: int, groups: int
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(channels, widths[0], 3, bias=False)
        inputs = [widths[0], *widths[:-1]]
        self.block_res_blocks = nn.ModuleList(
            _res_blocks(before, after, depth, groups) for before, after in zip(inputs, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, width, 3, time_stride=2) if halved else nn.Identity()
            for width, halved in zip(widths[:-1], halve, strict=True)
        )
        self.res_blocks = _res_blocks(widths[-1], widths[-1], depth, groups)
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = CausalConv3d(widths[-1], latent_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for blocks, down in zip(self.block_res_blocks, [*self.conv_blocks, nn.Identity()], strict=True):
            x = down(blocks(x))
        return self.conv2(F.silu(self.norm1(self.res_blocks(x))))


class Decoder(nn.Module):
    """The encoder in reverse. Its lists keep the encoder's order, so it walks them from the end."""

    def __init__(
        self, channels: int, latent_channels: int, widths: Sequence[int], halve: Sequence[bool], depth: int, groups: int
    ) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(latent_channels, widths[-1], 3)
        self.res_blocks = _res_blocks(widths[-1], widths[-1], depth, groups)
        inputs = [*widths[1:], widths[-1]]
        self.block_res_blocks = nn.ModuleList(
            _res_blocks(before, after, depth, groups) for before, after in zip(inputs, widths, strict=True)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv3d(width, 2 * width, 3) if doubled else nn.Identity()
            for width, doubled in zip(widths[1:], halve, strict=True)
        )
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = CausalConv3d(widths[0], channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_blocks(self.conv1(x))
        for blocks, up in zip(reversed(self.block_res_blocks), [*reversed(self.conv_blocks), None], strict=True):
            x = blocks(x)
            if isinstance(up, CausalConv3d):
                x = _spread(up(x))
        return self.conv_out(F.silu(self.norm1(x)))


def _spread(x: Tensor) -> Tensor:
    """Map [B, 2C, T, H, W] -> [B, C, 2T, H, W]: each pair of channels becomes two frames in a row."""
    return x.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2, 3)


class TemporalVAE(nn.Module):
    """Encoder and decoder along time; space is untouched.

    A clip whose length is no multiple of the time factor is padded with zero frames in front, and loses as many
    frames in front after decoding.
    """

    def __init__(
        self,
        in_out_channels: int,
        latent_embed_dim: int,
        embed_dim: int,
        filters: int,
        num_res_blocks: int,
        channel_multipliers: Sequence[int],
        temporal_downsample: Sequence[bool],
        num_groups: int,
    ) -> None:
        super().__init__()
        self.time_factor = 2 ** sum(temporal_downsample)
        widths = [filters * multiplier for multiplier in channel_multipliers]
        shape = (widths, temporal_downsample, num_res_blocks, num_groups)
        self.encoder = Encoder(in_out_channels, 2 * latent_embed_dim, *shape)
        self.quant_conv = CausalConv3d(2 * latent_embed_dim, 2 * embed_dim, 1)
        self.post_quant_conv = CausalConv3d(embed_dim, latent_embed_dim, 1)
        self.decoder = Decoder(in_out_channels, latent_embed_dim, *shape)

    def latent_frames(self, num_frames: int) -> int:
        return -(-num_frames // self.time_factor)

    def encode(self, x: Tensor) -> Tensor:
        """Map [B, C, T, H, W] -> mean and log variance of the posterior [B, 2E, ceil(T / 4), H, W]."""
        padded = F.pad(x, (0, 0, 0, 0, -x.shape[2] % self.time_factor, 0))
        return self.quant_conv(self.encoder(padded))

    def decode(self, z: Tensor, num_frames: int) -> Tensor:
        """Map [B, E, ceil(num_frames / 4), H, W] -> [B, C, num_frames, H, W]."""
        return self.decoder(self.post_quant_conv(z))[:, :, -num_frames % self.time_factor :]
