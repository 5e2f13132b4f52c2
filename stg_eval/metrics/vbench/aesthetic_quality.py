"""Aesthetic quality: LAION's linear head on CLIP ViT-L/14 image features, a tenth of its mean over the frames.

Source: vbench 0.1.5, vbench/aesthetic_quality.py. CLIP is transformers'. The official code runs it in float16 on a GPU
and in float32 on a CPU; here it is float32 everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, normalize, resize

from stg_eval import weights
from stg_eval.metrics import checkpoints
from stg_eval.metrics.linear import use_onednn
from stg_eval.metrics.vbench import VERSION, exact, to_tensor
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case

SIZE = 224
BATCH = 32
"""As in the official loop; on a CPU one image keeps its cores busy and their caches warm."""
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


class AestheticQuality:
    """A `ClipScorer`: about 0 to 1, higher is better. The head was fitted to people's ratings from 1 to 10."""

    def __init__(
        self, clip: weights.Checkpoint, head: weights.Checkpoint, device: str, batch: int | None = None
    ) -> None:
        self._clip = clip_vision(clip.path).to(device)
        use_onednn(self._clip, device)
        layers = self._clip.vision_model.encoder.layers
        layers[-1] = _LastLayer(layers[-1])
        self._head = linear_head(head).to(device)
        self._device, self._size = device, batch or (1 if device == "cpu" else BATCH)
        self.signature = (
            f"aesthetic_quality|vbench{VERSION}|clip-vit-l-14:{clip.fingerprint}|laion:{head.fingerprint}|float32|v1"
        )

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self._scores: list[Tensor] = []

    def update(self, frames: np.ndarray) -> None:
        with exact():
            for start in range(0, len(frames), self._size):
                images = preprocess(to_tensor(frames[start : start + self._size], self._device))
                self._scores.append(frame_scores(self._clip(pixel_values=images).image_embeds, self._head))

    def end(self) -> float:
        return video_score(torch.cat(self._scores))


def preprocess(images: Tensor) -> Tensor:
    """Images [n, 3, H, W], 0 to 255 -> CLIP's input [n, 3, 224, 224] (VBench's `clip_transform`).

    Bicubic on floats, without antialias and without clamping: rounding to grey levels would move scores by 5e-4.
    """
    images = resize(images, SIZE, interpolation=InterpolationMode.BICUBIC, antialias=False)
    out: Tensor = normalize(center_crop(images, SIZE).div(255.0), MEAN, STD)
    return out


def frame_scores(features: Tensor, head: nn.Linear) -> Tensor:
    """CLIP features [n, 768] -> score of each frame, [n], 1 to 10."""
    scores: Tensor = head(F.normalize(features.float(), dim=-1, p=2))[:, 0]
    return scores


def video_score(scores: Tensor) -> float:
    """Scores of all frames -> score of the video."""
    return (scores / 10).mean().item()


def clip_vision(path: Path) -> Any:
    """The image half of a CLIP in transformers' safetensors layout; its size is read off the tensors."""
    from safetensors import safe_open
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with safe_open(path, framework="pt") as file:
        wanted = ("vision_model.", "visual_projection.")
        state = {key: file.get_tensor(key) for key in file.keys() if key.startswith(wanted)}  # noqa: SIM118
    state.pop("vision_model.embeddings.position_ids", None)  # a constant that older files hold
    patches = state["vision_model.embeddings.patch_embedding.weight"]
    positions = state["vision_model.embeddings.position_embedding.weight"]
    config = CLIPVisionConfig(
        hidden_size=patches.shape[0],
        intermediate_size=state["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        projection_dim=state["visual_projection.weight"].shape[0],
        num_hidden_layers=1 + max(int(key.split(".")[3]) for key in state if ".layers." in key),
        num_attention_heads=patches.shape[0] // 64,
        patch_size=patches.shape[-1],
        image_size=patches.shape[-1] * round((positions.shape[0] - 1) ** 0.5),
    )
    with torch.device("meta"):  # no time for random weights that are replaced at once
        network = CLIPVisionModelWithProjection(config)
    network.load_state_dict(state, assign=True)
    network.vision_model.embeddings.position_ids = torch.arange(len(positions)).unsqueeze(0)
    return network.float().eval().requires_grad_(False)


class _LastLayer(nn.Module):
    """CLIP's last layer for the class token alone: nobody reads the others behind it."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        attention, normed = self.layer.self_attn, self.layer.layer_norm1(hidden_states)
        query, key, value = (
            project(x).unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for project, x in (
                (attention.q_proj, normed[:, :1]),
                (attention.k_proj, normed),
                (attention.v_proj, normed),
            )
        )
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        token = hidden_states[:, :1] + attention.out_proj(attended)
        out: Tensor = token + self.layer.mlp(self.layer.layer_norm2(token))
        return out


def linear_head(checkpoint: weights.Checkpoint) -> nn.Linear:
    """LAION's predictor: one linear layer."""
    state = weights.load_torch(checkpoint)
    head = nn.Linear(state["weight"].shape[1], 1)
    head.load_state_dict(state)
    return head.eval().requires_grad_(False)


def load(name: str, device: str) -> AestheticQuality:
    """The scorer with the official weights. Raises StgEvalError where they are missing."""
    return AestheticQuality(weights.require(checkpoints.CLIP_L_14), weights.require(checkpoints.LAION), device)
