"""Layer maps of diffusers' video models: which paths are the layers, what each block attends over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stg_eval.generators.guidance.layers import Layer, LayerMap, stack

if TYPE_CHECKING:
    from torch import nn


def _svd_layers(unet: nn.Module) -> list[Layer]:
    """Execution order: down, mid, up. named_modules() would list mid last."""
    u: Any = unet
    paths = []
    for name, blocks in (("down_blocks", u.down_blocks), ("mid_block", [u.mid_block]), ("up_blocks", u.up_blocks)):
        for i, block in enumerate(blocks):
            holder = name if name == "mid_block" else f"{name}.{i}"
            paths += [f"{holder}.attentions.{j}" for j in range(len(getattr(block, "attentions", ())))]
    return [
        Layer({"spatial": f"{p}.transformer_blocks.0", "temporal": f"{p}.temporal_transformer_blocks.0"}, p)
        for p in paths
    ]


def _latents(args: Sequence[Any], kwargs: Mapping[str, Any], name: str, frames: int) -> tuple[int, int, int]:
    x = kwargs[name] if name in kwargs else args[0]
    return x.shape[frames], x.shape[-2], x.shape[-1]


def _patched(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    """Tokens are 2 x 2 patches of the latents in Mochi, CogVideoX and Wan."""
    frames, height, width = grid
    return frames, height // 2, width // 2


SVD = LayerMap(
    model="Stable Video Diffusion",
    layers=_svd_layers,
    first=1,
    prefix=(
        "down_blocks.?",
        "mid_block",
        "up_blocks.?",
        "*.resnets.?",
        "*.attentions.?",
        "*.downsamplers.?",
        "*.attentions.?.transformer_blocks.?",
    ),
    grid=lambda args, kwargs: _latents(args, kwargs, "sample", 1),
)

MOCHI = LayerMap(
    model="Mochi",
    layers=stack(joint="transformer_blocks"),
    streams=("hidden_states", "encoder_hidden_states"),
    grid=lambda args, kwargs: _patched(_latents(args, kwargs, "hidden_states", 2)),
)

LTX = LayerMap(
    model="LTX-Video",
    layers=stack(joint="transformer_blocks"),
    unbatched=("rope_interpolation_scale",),
    grid=lambda args, kwargs: (kwargs["num_frames"], kwargs["height"], kwargs["width"]),
)

COGVIDEOX = LayerMap(
    model="CogVideoX",
    layers=stack(joint="transformer_blocks"),
    streams=("hidden_states", "encoder_hidden_states"),
    unbatched=("image_rotary_emb",),
    grid=lambda args, kwargs: _patched(_latents(args, kwargs, "hidden_states", 1)),
)

WAN = LayerMap(
    model="Wan",
    layers=stack(joint="blocks"),
    grid=lambda args, kwargs: _patched(_latents(args, kwargs, "hidden_states", 2)),
)
