"""DreamSim's ensemble (Fu et al., NeurIPS 2023), with which VBench-I2V compares backgrounds.

Source: dreamsim 0.2.1. Three ViT-B/16 side by side: DINO, CLIP and OpenCLIP, the latter two published in DINO's layout;
each has low-rank changes (LoRA) that a fourth file holds, and that are added to the weights here once and for all.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from functools import partial

import torch
from timm.layers import QuickGELU
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from stg_eval import weights
from stg_eval.metrics.vbench import clip, dino

State = dict[str, Tensor]

CLIP_FILES = ("clip_vitb16_pretrain.pth.tar", "open_clip_vitb16_pretrain.pth.tar")
LORA = "ensemble_lora/"


class DreamSim(nn.Module):
    """Images [n, 3, 224, 224], 0 to 1 -> embeddings [n, D] of mean 0 and length 1."""

    def __init__(self, own: dino.Dino, clips: list[dino.Dino], projections: list[Tensor]) -> None:
        super().__init__()
        self.own, self.clips, self.projections = own, nn.ModuleList(clips), projections

    def forward(self, images: Tensor) -> Tensor:
        parts = [self.own.tokens(normalize(images, dino.MEAN, dino.STD))[:, 0]]  # before its last normalisation
        images = normalize(images, clip.MEAN, clip.STD)
        parts += [network(images) @ matrix for network, matrix in zip(self.clips, self.projections, strict=True)]
        embeddings = torch.cat(parts, dim=1)
        embeddings = embeddings - embeddings.mean(dim=1, keepdim=True)
        out: Tensor = embeddings / embeddings.norm(dim=1, keepdim=True)
        return out


def load_dreamsim(own: weights.Checkpoint, ensemble: weights.Checkpoint, device: str) -> DreamSim:
    """Return the network from DINO's published file and DreamSim's archive; sizes are read off the tensors."""
    from safetensors.torch import load

    with zipfile.ZipFile(ensemble.path) as archive:
        states = [dict(weights.load_torch(own))]
        for name in CLIP_FILES:
            file = io.BytesIO(archive.read(name))
            states.append(dict(torch.load(file, map_location="cpu", weights_only=True)["state_dict"]))
        settings = json.loads(archive.read(f"{LORA}adapter_config.json"))
        adapt(states, load(archive.read(f"{LORA}adapter_model.safetensors")), settings["lora_alpha"] / settings["r"])
    dino_state, *clip_states = states
    projections = [state.pop("proj").float().to(device) for state in clip_states]
    activations = (QuickGELU, nn.GELU)  # OpenAI's CLIP, OpenCLIP
    clips = [clip_in_dino(state, act, device) for state, act in zip(clip_states, activations, strict=True)]
    return DreamSim(dino.build(dino_state, device), clips, projections)


def clip_in_dino(state: State, activation: type[nn.Module], device: str) -> dino.Dino:
    """Return a CLIP in DINO's layout, where its first normalisation goes by the name of a dropout."""
    state = {key.replace("pos_drop.", "norm_pre."): value for key, value in state.items()}
    return dino.build(state, device, act_layer=activation, norm_layer=partial(nn.LayerNorm, eps=1e-5))


def adapt(states: list[State], changes: State, scale: float) -> None:
    """Add the low-rank changes to the weights: W + scale * B A. Raises ValueError for one that has no place."""
    for key, down in changes.items():
        if ".lora_B." in key:
            continue
        found = re.search(r"extractor_list\.(\d+)\.model\.(.+)\.lora_A\.", key)
        if not found:
            raise ValueError(f"DreamSim's adapter has {key!r}, which is not known")
        state, name = states[int(found[1])], f"{found[2]}.weight"
        state[name] = state[name].float() + scale * changes[key.replace(".lora_A.", ".lora_B.")] @ down
