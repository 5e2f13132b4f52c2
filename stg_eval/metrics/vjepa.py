"""V-JEPA ViT-H/16 and the attentive pooler of its SSv2 probe (Bardes et al., 2024): the features of JEDi.

Parameter names are the published checkpoints', which hold the position table too. Sizes are read off the tensors; the
number of heads is not in them: 16 for ViT-H.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval import weights
from stg_eval.metrics.crop import crop
from stg_eval.metrics.linear import use_onednn
from stg_eval.metrics.vbench import exact
from stg_eval.types import StgEvalError

NUM_FRAMES, SIDE, HEADS = 16, 224, 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Attention(nn.Module):
    """Self-attention of tokens [N, tokens, dim]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention of queries [N, queries, dim] to tokens [N, tokens, dim]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.q, self.kv, self.proj = (
            heads,
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )

    def forward(self, queries: Tensor, x: Tensor) -> Tensor:
        query = self.q(queries).unflatten(2, (self.heads, -1)).transpose(1, 2)
        key, value = self.kv(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.attn, self.mlp = Attention(dim, heads), MLP(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Encoder(nn.Module):
    """Clips [N, 3, 16, 224, 224], normalised -> tokens [N, 1568, dim]."""

    def __init__(self, state: Mapping[str, Tensor], heads: int) -> None:
        super().__init__()
        kernel, hidden = state["patch_embed.proj.weight"], len(state["blocks.0.mlp.fc1.weight"])
        dim, (t, height, width) = len(kernel), kernel.shape[2:]
        size = (t, height, width)
        depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, dim, kernel_size=size, stride=size)})
        self.pos_embed = nn.Parameter(torch.empty_like(state["pos_embed"]))
        self.blocks = nn.ModuleList(Block(dim, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.load_state_dict(state)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.patch_embed["proj"](clips).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out


class Pooler(nn.Module):
    """Tokens [N, tokens, dim] -> feature [N, dim]: one learnt query, one block of cross-attention."""

    def __init__(self, state: Mapping[str, Tensor], heads: int) -> None:
        super().__init__()
        hidden, dim = state["cross_attention_block.mlp.fc1.weight"].shape
        self.query_tokens = nn.Parameter(torch.empty_like(state["query_tokens"]))
        self.cross_attention_block = nn.ModuleDict(
            {
                "norm1": nn.LayerNorm(dim),
                "xattn": CrossAttention(dim, heads),
                "norm2": nn.LayerNorm(dim),
                "mlp": MLP(dim, hidden),
            }
        )
        self.load_state_dict(state)

    def forward(self, x: Tensor) -> Tensor:
        block, query = self.cross_attention_block, self.query_tokens.expand(len(x), -1, -1)
        query = query + block["xattn"](query, block["norm1"](x))
        out: Tensor = (query + block["mlp"](block["norm2"](query)))[:, 0]
        return out


def network(encoder: Mapping[str, Any], probe: Mapping[str, Any], heads: int = HEADS) -> nn.Module:
    """Map clips -> features, from the two checkpoints' contents; the classifier behind the pooler is dropped."""
    key = "target_encoder" if "target_encoder" in encoder else "encoder"
    state = {name.replace("module.", "").replace("backbone.", ""): value for name, value in encoder[key].items()}
    pooled = {name.replace("module.", ""): value for name, value in probe["classifier"].items()}
    pooler = {name.removeprefix("pooler."): value for name, value in pooled.items() if name.startswith("pooler.")}
    return nn.Sequential(Encoder(state, heads), Pooler(pooler, heads)).float().eval().requires_grad_(False)


def prepare(clip: Tensor) -> Tensor:
    """Map a clip uint8 [16, H, W, 3], RGB -> [3, 16, 224, 224]: shorter side to 224, centre crop, ImageNet's
    statistics."""
    frames = crop(clip, SIDE).float() / 255
    return ((frames - torch.tensor(MEAN)) / torch.tensor(STD)).permute(3, 0, 1, 2)


class VJEPAExtractor:
    """Features [N, 1280] of the first 16 frames."""

    def __init__(self, network: nn.Module, *, fingerprint: str, device: str, batch_size: int = 4) -> None:
        self.network = network.to(device)
        use_onednn(self.network, device)
        self.device, self.batch_size = device, batch_size
        self.signature = f"vjepa-h-ssv2|{NUM_FRAMES}f|crop{SIDE}|{fingerprint}"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Return the first 16."""
        if num_frames < NUM_FRAMES:
            raise StgEvalError(f"V-JEPA looks at {NUM_FRAMES} frames and the clip has {num_frames}")
        return range(NUM_FRAMES)

    @exact()
    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [16, H, W, 3], RGB, of any sizes -> features float32 [N, 1280]."""
        out = []
        for start in range(0, len(clips), self.batch_size):
            batch = torch.stack([prepare(torch.from_numpy(c)) for c in clips[start : start + self.batch_size]])
            out.append(self.network(batch.to(self.device)).float().cpu().numpy())
        return np.concatenate(out)


def load(encoder: weights.Checkpoint, probe: weights.Checkpoint, device: str) -> VJEPAExtractor:
    """Return the published network."""
    built = network(weights.load_torch(encoder), weights.load_torch(probe))
    return VJEPAExtractor(built, fingerprint=f"{encoder.fingerprint}-{probe.fingerprint}", device=device)
