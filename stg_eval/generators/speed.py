"""What makes a model faster or smaller on a GPU: attention kernels, compiled blocks, weights in eight bits.

Each rounds differently, so whatever is not the default stands in the request and in its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stg_eval.generators.guidance.layers import LayerMap
from stg_eval.types import JSONValue, StgEvalError

SPEED_SETTINGS: dict[str, JSONValue] = {"attention": "default", "compile": False, "quantize": "none"}
"""attention: a name of diffusers' dispatcher, such as native, flash or sage; compile: the denoiser's blocks by
torch.compile, which skips and shared prefixes lie around; quantize "fp8": linear layers are kept in eight bits and
computed in the model's dtype, half the memory."""


def unsaid(settings: Mapping[str, JSONValue]) -> dict[str, JSONValue]:
    """Return settings without those of SPEED_SETTINGS that are at their defaults: keys of earlier versions hold."""
    return {name: value for name, value in settings.items() if SPEED_SETTINGS.get(name, ...) != value}


def hasten(denoisers: Sequence[Any], layer_map: LayerMap, settings: Mapping[str, JSONValue]) -> None:
    """Change denoisers on the CPU, before they are put on their device, as SPEED_SETTINGS say.

    Raises StgEvalError for an attention kernel that is not there or a model without a choice of them, for
    compile=true with layers that come and go (offload=sequential or group) or in eight bits, and for another quantize.
    """
    chosen = {**SPEED_SETTINGS, **settings}
    if chosen["quantize"] not in ("none", "fp8"):
        raise StgEvalError(f"quantize is none or fp8, not {chosen['quantize']!r}")
    if chosen["compile"] and chosen.get("offload") in ("sequential", "group"):
        raise StgEvalError(f"compile=true needs layers that stay where they are; leave out offload={chosen['offload']}")
    if chosen["compile"] and chosen["quantize"] != "none":
        raise StgEvalError("compile=true and quantize=fp8 do not go together; leave one out")
    for denoiser in denoisers:
        if chosen["attention"] != "default":
            _choose_attention(denoiser, str(chosen["attention"]))
        if chosen["quantize"] == "fp8":
            _in_eight_bits(denoiser)
        if chosen["compile"]:
            _compile_blocks(denoiser, layer_map)


def _choose_attention(denoiser: Any, name: str) -> None:
    if not any(hasattr(getattr(module, "processor", None), "_attention_backend") for module in denoiser.modules()):
        raise StgEvalError(f"{type(denoiser).__name__} has no choice of attention kernels; leave out attention={name}")
    try:
        denoiser.set_attention_backend(name)
    except (ValueError, RuntimeError, ImportError) as error:
        reason = str(error).splitlines()[0][:200]
        raise StgEvalError(f"attention={name} cannot be used here ({reason}); leave it out") from error


def _in_eight_bits(denoiser: Any) -> None:
    import torch

    denoiser.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=denoiser.dtype)


def _compile_blocks(denoiser: Any, layer_map: LayerMap) -> None:
    """Compile each block's own forward: a skip replaces it, a replayed prefix passes it by, as ever."""
    import torch

    for layer in layer_map.layers(denoiser):
        for path in layer.blocks.values():
            block = denoiser.get_submodule(path)
            block.forward = torch.compile(block.forward)
