"""Where a model's layers are: the small map that makes a denoiser guidable. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stg_eval.errors import StgEvalError
from stg_eval.signature import Guidance
from stg_eval.terms import Skip

if TYPE_CHECKING:
    from torch import nn

Kind = Literal["spatial", "temporal", "joint"]


@dataclass(frozen=True)
class Layer:
    """One layer: the module path of each of its blocks, by what the block attends over."""

    blocks: Mapping[Kind, str]
    """{"spatial": path, "temporal": path} for factorised attention, {"joint": path} for 3-D attention."""
    path: str = ""
    """Path of the module that holds all blocks, where there is one."""


@dataclass(frozen=True, kw_only=True)
class LayerMap:
    """What the engine must know of a denoiser.

    Batch is the outermost part of dim 0 in every tensor that enters or leaves a recorded module (SVD folds frames
    into dim 0 behind the batch: that is fine).
    """

    model: str
    """Name for messages."""
    layers: Callable[[nn.Module], Sequence[Layer]]
    """The layers of a given denoiser in execution order."""
    first: int = 0
    """Number of the first layer in the published numbering."""
    attention: str = "attn1"
    """Attribute of a block that holds its self-attention."""
    also: tuple[str, ...] = ()
    """Attributes of further self-attentions that an attention skip perturbs with it."""
    streams: tuple[str, ...] = ("hidden_states",)
    """Inputs of a block, in positional order, that it returns updated; a skipped block returns them as they came."""
    prefix: tuple[str, ...] | None = None
    """None: blocks form a chain, each fed by the one before, so one recorded output stands for all before it. Else
    fnmatch patterns of the modules to record (U-Nets, whose skip connections need every output)."""
    unbatched: tuple[str, ...] = ()
    """Keyword inputs of the denoiser that have no batch dimension, such as rotary embeddings."""
    channels: int | None = None
    """Output channels (dim 1) that are the prediction, None for all (Open-Sora also emits a variance)."""
    outputs: int = 1
    """How many of the denoiser's outputs are predictions; all are guided."""
    c_is_reference: bool = False
    """The pipeline itself refers to the conditional prediction, for rescaling. So guidance goes into the unconditional
    rows alone: u' = u - delta / (g - 1)."""
    passes_by: Callable[[Mapping[str, Any]], bool] = lambda kwargs: False
    """Whether a call with these keyword inputs is a weak pass of the pipeline's own, which guidance leaves alone."""
    joint_identity: Mapping[str, Callable[[nn.Module], Callable[..., Any]]] = field(default_factory=dict)
    """For attention over video and text together: name of the processor -> the function that gives, for an attention,
    the forward in which video attends to itself and text only, as `skips.joint_identity` computes it."""
    grid: Callable[[Sequence[Any], Mapping[str, Any]], tuple[int, int, int]] | None = None
    """(frames, height, width) of the latents from the denoiser's inputs; only SEG, which blurs over them, needs it."""


def stack(*, spatial: str = "", temporal: str = "", joint: str = "") -> Callable[[nn.Module], Sequence[Layer]]:
    """Return layers that are the elements of module lists: pass the paths of the spatial and temporal lists, or of the
    joint.

    `stack(spatial="spatial_blocks", temporal="temporal_blocks")` pairs spatial_blocks.i with temporal_blocks.i.
    """
    lists: dict[Kind, str] = {"spatial": spatial, "temporal": temporal, "joint": joint}

    def layers(denoiser: nn.Module) -> Sequence[Layer]:
        found = {kind: path for kind, path in lists.items() if path}
        count = min(len(denoiser.get_submodule(path)) for path in found.values())  # type: ignore[arg-type]
        return [Layer({kind: f"{path}.{i}" for kind, path in found.items()}) for i in range(count)]

    return layers


def latent_grid(
    name: str, *, frames: int, patch: int = 1
) -> Callable[[Sequence[Any], Mapping[str, Any]], tuple[int, int, int]]:
    """Return a `LayerMap.grid` for denoisers that take the latents as input `name`, or first: their dim `frames` and
    the last two, these over `patch`, since a token is patch x patch latents."""

    def grid(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
        x = kwargs[name] if name in kwargs else args[0]
        return x.shape[frames], x.shape[-2] // patch, x.shape[-1] // patch

    return grid


@dataclass(frozen=True)
class WeakPass:
    """One weak prediction: its weight in the guidance and the blocks it perturbs."""

    name: str
    """Unlike that of any other pass: "spatial", "temporal" or "joint", numbered from the second skip on."""
    kind: Kind
    scale: float
    blocks: tuple[tuple[Kind, str], ...]
    skip: Skip


def weak_passes(denoiser: nn.Module, guidance: Guidance, layer_map: LayerMap) -> list[WeakPass]:
    """Return the weak passes a guidance asks for; none where every scale is 0.

    Raises StgEvalError for a layer or a kind of attention that the denoiser does not have.
    """
    passes = []
    for number, skip in enumerate(guidance.skips, 1):
        layers = [_find(name, denoiser, skip, layer_map) for name in skip.layers]
        scales: tuple[tuple[Kind, float], ...] = (
            ("spatial", skip.spatial_scale),
            ("temporal", skip.temporal_scale),
            ("joint", skip.joint_scale),
        )
        of_skip = []
        for kind, scale in scales:
            blocks = tuple(b for layer in layers for b in layer.blocks.items() if kind in (b[0], "joint"))
            if scale and not blocks:
                have = sorted({k for layer in layers for k in layer.blocks})
                instead = f"write {skip.method}[{','.join(skip.layers)}]w{scale:g}" if "joint" in have else "drop it"
                raise StgEvalError(
                    f"{kind} scale {scale:g} has no {kind} attention to act on in {layer_map.model} layer "
                    f"{','.join(skip.layers)}, which has {' and '.join(have)} attention; {instead}"
                )
            if scale:
                of_skip.append(WeakPass(kind if number == 1 else f"{kind}-{number}", kind, scale, blocks, skip))
        perturbed = {path for weak in of_skip for _, path in weak.blocks}
        for name, layer in zip(skip.layers, layers, strict=True):
            if of_skip and not perturbed & set(layer.blocks.values()):
                raise StgEvalError(f"no scale of {skip} acts on layer {name}; leave the layer out or give it a scale")
        passes += of_skip
    return passes


def unconditional_blocks(denoiser: nn.Module, skip: Skip, layer_map: LayerMap) -> list[tuple[Kind, str]]:
    """Return the blocks that a skip of the unconditional pass perturbs: all of its layers. Raises StgEvalError for a
    layer that the denoiser does not have."""
    return [block for name in skip.layers for block in _find(name, denoiser, skip, layer_map).blocks.items()]


def _find(name: str, denoiser: nn.Module, skip: Skip, layer_map: LayerMap) -> Layer:
    layers = layer_map.layers(denoiser)
    first, last = layer_map.first, layer_map.first + len(layers) - 1
    if name.isdecimal():
        if first <= int(name) <= last:
            return layers[int(name) - first]
    else:
        for layer in layers:
            if layer.path == name:
                return layer
            for kind, path in layer.blocks.items():
                if path == name:
                    return Layer({kind: path})
    example = layers[0].path or next(iter(layers[0].blocks.values()))
    raise StgEvalError(
        f"{skip}: {layer_map.model} has no layer {name!r}: give a number from {first} to {last} or a path such as "
        f"{example}"
    )
