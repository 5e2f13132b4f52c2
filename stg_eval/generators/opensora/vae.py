"""Open-Sora 1.2's video autoencoder: a 2-D VAE for each frame, then a causal 3-D VAE along time, 4x8x8 in all.

Parameter names are those of the published checkpoint (hub: hpcai-tech/OpenSora-VAE-v1.2). Videos are coded in chunks
of 17 frames (5 latent frames), independent of each other; the last chunk may be shorter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from stg_eval.generators.opensora.checkpoint import load_checkpoint
from stg_eval.generators.opensora.temporal_vae import TemporalVAE

SPATIAL: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
}
"""AutoencoderKL arguments of the 2-D VAE, which is SDXL's, fine-tuned."""

TEMPORAL: dict[str, Any] = {
    "in_out_channels": 4,
    "latent_embed_dim": 4,
    "embed_dim": 4,
    "filters": 128,
    "num_res_blocks": 4,
    "channel_multipliers": (1, 2, 2, 4),
    "temporal_downsample": (False, True, True),
    "num_groups": 32,
}

SPATIAL_FACTOR = 0.18215
"""Scale of the 2-D latents; fixed in the original, whatever that VAE's own configuration says."""


class SpatialVAE(nn.Module):
    """The 2-D VAE over frames, `batch_size` frames at a time. Its posterior is sampled."""

    def __init__(self, batch_size: int, **config: Any) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.module = AutoencoderKL(**config)

    def encode(self, video: Tensor, generator: torch.Generator | None) -> Tensor:
        """Map [B, 3, T, H, W] in [-1, 1] -> [B, C, T, H/8, W/8]."""
        frames = video.transpose(1, 2).flatten(0, 1).split(self.batch_size)
        latents = [self.module.encode(part).latent_dist.sample(generator) * SPATIAL_FACTOR for part in frames]
        return torch.cat(latents).unflatten(0, (len(video), -1)).transpose(1, 2)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the inverse of `encode`."""
        frames = (latents / SPATIAL_FACTOR).transpose(1, 2).flatten(0, 1).split(self.batch_size)
        video = torch.cat([self.module.decode(part).sample for part in frames])
        return video.unflatten(0, (len(latents), -1)).transpose(1, 2)


class OpenSoraVAE(ModelMixin, ConfigMixin):
    """Videos to normalised latents and back. The defaults are the released model.

    `vae_2d` and `vae_temporal` take entries of SPATIAL and TEMPORAL that differ; other entries, such as the hub's
    pointers to the parts it was trained from, are passed over.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        vae_2d: Mapping[str, Any] | None = None,
        vae_temporal: Mapping[str, Any] | None = None,
        micro_frame_size: int = 17,
    ) -> None:
        super().__init__()
        spatial, temporal = vae_2d or {}, vae_temporal or {}
        self.spatial_vae = SpatialVAE(
            spatial.get("micro_batch_size", 4), **SPATIAL | {k: v for k, v in spatial.items() if k in SPATIAL}
        )
        self.temporal_vae = TemporalVAE(**TEMPORAL | {k: v for k, v in temporal.items() if k in TEMPORAL})
        self.register_buffer("shift", torch.tensor([-0.10, 0.34, 0.27, 0.98]).reshape(1, -1, 1, 1, 1))
        self.register_buffer("scale", torch.tensor([3.85, 2.32, 2.33, 3.06]).reshape(1, -1, 1, 1, 1))

    @classmethod
    def from_pretrained(cls, source: str | Path, torch_dtype: torch.dtype = torch.float32) -> OpenSoraVAE:
        """Load a local folder or a hub id (`owner/name@revision`) in the published layout.

        Raises StgEvalError where it is not an Open-Sora 1.2 VAE.
        """
        return load_checkpoint(cls, source, model_type="VideoAutoencoderPipeline", torch_dtype=torch_dtype)

    @apply_forward_hook  # brings an offloaded model to the device, as calling it would
    def encode(self, video: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Sample normalised latents float32 [B, C, T', H/8, W/8] of a video [B, 3, T, H, W] in [-1, 1].

        Both posteriors are sampled, as in the original. T' is ceil(frames / 4) summed over the chunks.
        """
        frames = self.spatial_vae.encode(video.to(self.dtype), generator)
        chunks = [
            DiagonalGaussianDistribution(self.temporal_vae.encode(chunk)).sample(generator)
            for chunk in frames.split(self.config.micro_frame_size, dim=2)
        ]
        latents = torch.cat(chunks, dim=2).float()
        return (latents - self.shift.to(latents)) / self.scale.to(latents)

    @apply_forward_hook
    def decode(self, latents: Tensor, num_frames: int) -> Tensor:
        """Map latents [B, C, T', h, w] -> video [B, 3, num_frames, 8h, 8w], about [-1, 1], in the VAE's dtype."""
        latents = latents.float()
        latents = (latents * self.scale.to(latents) + self.shift.to(latents)).to(self.dtype)
        step = self.config.micro_frame_size
        chunks = latents.split(self.temporal_vae.latent_frames(step), dim=2)
        lengths = [min(step, num_frames - start) for start in range(0, num_frames, step)]
        frames = [self.temporal_vae.decode(chunk, length) for chunk, length in zip(chunks, lengths, strict=True)]
        return self.spatial_vae.decode(torch.cat(frames, dim=2))
