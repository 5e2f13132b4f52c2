"""VideoMAE-v2 ViT-g (SSv2): the features of content-debiased FVD (Ge et al., CVPR 2024).

transformers' VideoMAE with the official checkpoint under transformers' names. Frames are prepared as the cd-fvd package
does: no ImageNet mean and standard deviation, although the network was trained with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

from stg_eval import weights
from stg_eval.metrics.crop import crop
from stg_eval.metrics.linear import use_onednn
from stg_eval.metrics.vbench import exact
from stg_eval.types import StgEvalError

NUM_FRAMES, SIDE = 16, 224
RESOLUTION = 256
"""Shorter side that cd-fvd's loader first scales a video to, before its centre crop."""

GIANT = VideoMAEConfig(
    image_size=SIDE,
    patch_size=14,
    num_frames=NUM_FRAMES,
    tubelet_size=2,
    hidden_size=1408,
    num_hidden_layers=40,
    num_attention_heads=16,
    intermediate_size=6144,
    layer_norm_eps=1e-6,
    qv_bias=True,
    use_mean_pooling=True,
)
"""vit_giant_patch14_224: 1,011.9 M parameters, 5.09 TFLOP a clip."""


def load_network(checkpoint: Mapping[str, Tensor], config: VideoMAEConfig = GIANT) -> VideoMAEForVideoClassification:
    """Return the network without its classifier: its "logits" are the features fc_norm(mean of tokens), [N,
    hidden_size].

    Args:
        checkpoint: The official file's tensors, under "module" or "model" or bare; stored in half or single precision.
        config: Sizes; other than GIANT in tests only.
    """
    for wrapper in ("model", "module"):
        if wrapper in checkpoint:
            checkpoint = checkpoint[wrapper]  # type: ignore[assignment]
            break
    with torch.device("meta"):
        network = VideoMAEForVideoClassification(config)
    network.classifier = torch.nn.Identity()
    network.fc_norm = torch.nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # transformers has 1e-5 here
    network.load_state_dict(transformers_names(checkpoint), assign=True)
    # A plain tensor, not a buffer: made on the meta device it would hold nothing.
    table = position_table(network.videomae.embeddings.num_patches, config.hidden_size)
    network.videomae.embeddings.position_embeddings = table
    return network.eval().requires_grad_(False)  # type: ignore[no-any-return]


def transformers_names(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map official parameter names -> transformers'. The joint qkv matrix is split in three; the class head is
    dropped."""
    renamed = {
        "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "attn.q_bias": "attention.attention.query.bias",
        "attn.v_bias": "attention.attention.value.bias",
    }
    out: dict[str, Tensor] = {}
    for name, value in checkpoint.items():
        value = value.float()
        if name.startswith("head."):
            continue
        if not name.startswith("blocks."):
            module, _, parameter = name.rpartition(".")
            out[f"{renamed.get(module, module)}.{parameter}"] = value
            continue
        _, index, rest = name.split(".", 2)
        layer = f"videomae.encoder.layer.{index}"
        if rest == "attn.qkv.weight":
            for part, matrix in zip(("query", "key", "value"), value.chunk(3), strict=True):
                out[f"{layer}.attention.attention.{part}.weight"] = matrix
        elif rest in renamed:  # the two biases
            out[f"{layer}.{renamed[rest]}"] = value
        else:
            module, _, parameter = rest.rpartition(".")
            out[f"{layer}.{renamed[module]}.{parameter}"] = value
    return out


def position_table(num_positions: int, dim: int) -> Tensor:
    """Return Sine-cosine position embeddings, float32 [1, num_positions, dim] (Vaswani et al. 2017)."""
    position = np.arange(num_positions)[:, None] / np.power(10000, 2 * (np.arange(dim) // 2) / dim)[None]
    position[:, 0::2] = np.sin(position[:, 0::2])
    position[:, 1::2] = np.cos(position[:, 1::2])
    return torch.from_numpy(position.astype(np.float32))[None]


def prepare(frames: Tensor) -> Tensor:
    """Map frames uint8 [T, H, W, 3] -> float32 [T, 3, 224, 224] in 0 to 1, stretched bilinearly without
    antialiasing."""
    x = frames.permute(0, 3, 1, 2).float() / 255
    return F.interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


class VideoMAEExtractor:
    """Features [N, 1408] of the first 16 frames.

    Args:
        network: From `load_network`. On a CPU its linear layers are exchanged (`stg_eval.metrics.linear`).
        resolution: Shorter side before the centre crop; None stretches whole frames, as cd-fvd does with arrays.
    """

    def __init__(
        self,
        network: VideoMAEForVideoClassification,
        *,
        fingerprint: str,
        device: str,
        resolution: int | None = RESOLUTION,
        batch_size: int = 8,
    ) -> None:
        self.network = network.to(device)
        use_onednn(self.network, device)
        self.device, self.resolution, self.batch_size = device, resolution, batch_size
        size = f"crop{resolution}-{SIDE}" if resolution else f"{SIDE}"
        self.signature = f"videomae-g-ssv2|{NUM_FRAMES}f|{size}|{fingerprint}"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Return the first 16. cd-fvd takes a random stretch of a longer video; a score must not depend on chance."""
        if num_frames < NUM_FRAMES:
            raise StgEvalError(f"FVD looks at {NUM_FRAMES} frames and the clip has {num_frames}")
        return range(NUM_FRAMES)

    @exact()
    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [16, H, W, 3], RGB, of any sizes -> features float32 [N, 1408]."""
        out = [np.empty((0, self.network.config.hidden_size), np.float32)]
        for start in range(0, len(clips), self.batch_size):
            batch = torch.stack([self._prepare(c) for c in clips[start : start + self.batch_size]])
            out.append(self.network(batch.to(self.device)).logits.float().cpu().numpy())
        return np.concatenate(out)

    def _prepare(self, clip: np.ndarray) -> Tensor:
        # On the CPU wherever the network runs: cutting off to whole numbers turns a rounding error into a grey level.
        frames = torch.from_numpy(clip)
        return prepare(crop(frames, self.resolution) if self.resolution else frames)


def load(checkpoint: weights.Checkpoint, device: str) -> VideoMAEExtractor:
    """Return the published network."""
    network = load_network(weights.load_torch(checkpoint))
    return VideoMAEExtractor(network, fingerprint=checkpoint.fingerprint, device=device)
