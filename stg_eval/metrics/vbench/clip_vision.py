"""The image half of CLIP (Radford et al., ICML 2021) by transformers, and VBench's way of preparing images for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, normalize, resize

SIZE = 224
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def preprocess(images: Tensor) -> Tensor:
    """Images [n, 3, H, W], 0 to 255 -> CLIP's input [n, 3, 224, 224] (VBench's `clip_transform`).

    Bicubic on floats, without antialias and without clamping: rounding to grey levels would move scores by 5e-4.
    """
    images = resize(images, SIZE, interpolation=InterpolationMode.BICUBIC, antialias=False)
    out: Tensor = normalize(center_crop(images, SIZE).div(255.0), MEAN, STD)
    return out


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


def only_class_token(network: Any) -> None:
    """Let the last layer of a `clip_vision` compute the class token alone: nobody reads the others behind it."""
    layers = network.vision_model.encoder.layers
    layers[-1] = _LastLayer(layers[-1])


class _LastLayer(nn.Module):
    """CLIP's last layer for the class token alone."""

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
