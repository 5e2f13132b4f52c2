"""What a weak pass does to a layer: identity attention, residual skip, attention input, blurred attention (SEG).

The functions of `stg_eval.methods.SKIPS` come first: each names a module and a replacement for its `forward`. An
attention skip replaces the whole attention, processor and backend included, so no backend can ignore it; an attention
whose processor is not known here is refused.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance.layers import LayerMap
from stg_eval.methods import SKIPS

Forward = Callable[..., Any]


@dataclass(frozen=True)
class Site:
    """What a skip knows beside the block."""

    layer_map: LayerMap
    attention: str
    """Attribute of the block that holds the self-attention to perturb."""
    grid: tuple[int, int, int] | None
    """(frames, height, width) of the latents, where the map tells."""
    blur_sigma: float | None


def skip_function(method: str) -> Callable[[nn.Module, str, Site], tuple[nn.Module, Forward]]:
    """Return the function of a row of SKIPS: (block, kind, site) -> (module to patch, its replacement forward)."""
    module, _, name = SKIPS[method].function.partition(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]


def residual_block(block: nn.Module, kind: str, site: Site) -> tuple[nn.Module, Forward]:
    """STG-R, Eq. 15: the block returns its inputs (every stream it would have updated)."""
    return block, residual(site.layer_map.streams)


def identity_attention(block: nn.Module, kind: str, site: Site) -> tuple[nn.Module, Forward]:
    """STG-A: each token attends to itself, see `identity`."""
    attention = block.get_submodule(site.attention)
    return attention, identity(attention, site.layer_map.joint_identity)


def attention_input(block: nn.Module, kind: str, site: Site) -> tuple[nn.Module, Forward]:
    """The attention returns its input, so the block adds norm(x) to x: the deleted public SVD variant of STG-R."""
    joint = bool(site.layer_map.joint_identity)  # over video and text together: it returns both
    positional = residual(("hidden_states", "encoder_hidden_states") if joint else ("hidden_states",))

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not args and "hidden_states" not in kwargs:  # an attention outside diffusers names its input otherwise
            args = (next(iter(kwargs.values())),)
        return positional(*args, **kwargs)

    return block.get_submodule(site.attention), forward


def blurred_queries(block: nn.Module, kind: str, site: Site) -> tuple[nn.Module, Forward]:
    """SEG: the attention's queries are blurred, see `seg`. Raises StgEvalError where the token grid is not known."""
    if site.grid is None:
        raise StgEvalError(f"SEG needs the token grid, which the layer map of {site.layer_map.model} does not tell")
    projection, fused = query_projection(block.get_submodule(site.attention))
    blur, original = seg(kind, site.grid, site.blur_sigma), projection.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        out = original(*args, **kwargs)
        if not fused:
            return blur(out)
        q, k, v = out.chunk(3, dim=-1)
        return torch.cat([blur(q), k, v], dim=-1)

    return projection, forward


def residual(streams: Sequence[str]) -> Forward:
    """Return a forward that returns its inputs of these names, or at these places."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        inputs = [kwargs[name] if name in kwargs else args[i] for i, name in enumerate(streams)]
        return inputs[0] if len(inputs) == 1 else tuple(inputs)

    return forward


def identity(attention: nn.Module, joint: Mapping[str, Callable[[nn.Module], Forward]]) -> Forward:
    """STG-A: the map of video tokens to video tokens becomes the identity, so each token attends to itself.

    Self-attention: output = out(values). Joint text-video attention: what `joint` has for its processor, see LayerMap.
    Raises StgEvalError for an attention whose processor is not known.
    """
    a: Any = attention
    if hasattr(a, "qkv") and hasattr(a, "proj"):
        return lambda hidden_states, *_, **__: a.proj(a.qkv(hidden_states).chunk(3, dim=-1)[2])
    name = type(getattr(attention, "processor", None)).__name__
    if name in joint:
        return joint[name](attention)
    if name in _SELF_ATTENTION:
        return _self_identity(attention)
    known = ", ".join((*_SELF_ATTENTION, *joint))
    raise StgEvalError(
        f"cannot skip {type(attention).__name__}: its processor {name} is unknown, the skip might do nothing; "
        f"set the model's default attention processor (known: {known})"
    )


def seg(kind: str, grid: tuple[int, int, int], sigma: float | None) -> Forward:
    """Smoothed Energy Guidance (arXiv 2408.00760): queries blurred by a Gaussian over their frame (over time for
    temporal attention), sigma in tokens; None is an infinite sigma, every query the mean one.

    Returns a function of the query projection's output [batch, tokens, channels]; text tokens before the video's
    stay as they are. grid: (frames, height, width) of the latents; the layer's may be a fraction of it.
    """
    frames, height, width = grid

    def blur(query: Tensor) -> Tensor:
        if kind == "temporal":
            return _gaussian(query.transpose(1, 2), sigma, dims=1).transpose(1, 2)
        if kind == "spatial":
            h, w = _shape_of(query.shape[1], height, width)
            return _gaussian(query.transpose(1, 2).unflatten(2, (h, w)), sigma, dims=2).flatten(2).transpose(1, 2)
        text, video = query.split([query.shape[1] - frames * height * width, frames * height * width], dim=1)
        planes = video.unflatten(1, (frames, height, width)).permute(0, 1, 4, 2, 3).flatten(0, 1)
        planes = _gaussian(planes, sigma, dims=2).unflatten(0, (-1, frames)).permute(0, 1, 3, 4, 2)
        return torch.cat([text, planes.flatten(1, 3)], dim=1)

    return blur


def query_projection(attention: Any) -> tuple[nn.Module, bool]:
    """Return the module that makes the queries, and whether it makes keys and values too. Raises StgEvalError if
    unknown."""
    if hasattr(attention, "qkv"):
        return attention.qkv, True
    if getattr(attention, "fused_projections", False):
        raise StgEvalError("SEG cannot blur the queries of fused projections: call unfuse_qkv_projections() first")
    if not hasattr(attention, "to_q"):
        raise StgEvalError(f"SEG does not know where {type(attention).__name__} makes its queries (no to_q, no qkv)")
    return attention.to_q, False


def _self_identity(attention: nn.Module) -> Forward:
    if getattr(attention, "fused_projections", False):
        raise StgEvalError("cannot skip an attention with fused projections: call unfuse_qkv_projections() first")
    if getattr(attention, "spatial_norm", None) is not None or getattr(attention, "group_norm", None) is not None:
        raise StgEvalError(f"cannot skip {type(attention).__name__} with a norm of its own (spatial_norm, group_norm)")

    a: Any = attention

    def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        out = a.to_out[1](a.to_out[0](a.to_v(hidden_states)))
        if getattr(a, "residual_connection", False):
            out = out + hidden_states
        return out / getattr(a, "rescale_output_factor", 1.0)

    return forward


def joint_identity(
    q: Tensor, k: Tensor, v: Tensor, text_q: Tensor, text_k: Tensor, text_v: Tensor
) -> tuple[Tensor, Tensor]:
    """Joint attention whose video-to-video part is the identity, in O(N L) for N video and L text tokens.

    All [batch, heads, tokens, head_dim]. A video token attends to itself and to all text; text attends to everything.
    Returns video [batch, heads, N, head_dim] and text [batch, heads, L, head_dim].
    """
    scale = q.shape[-1] ** -0.5
    logits = torch.cat([(q * k).sum(-1, keepdim=True), q @ text_k.transpose(-1, -2)], dim=-1) * scale
    weights = logits.softmax(-1, dtype=torch.float32).to(v.dtype)
    video = weights[..., :1] * v + weights[..., 1:] @ text_v
    text = F.scaled_dot_product_attention(text_q, torch.cat([k, text_k], dim=2), torch.cat([v, text_v], dim=2))
    return video, text


_SELF_ATTENTION = ("AttnProcessor", "AttnProcessor2_0", "LTXVideoAttnProcessor", "WanAttnProcessor")


def _shape_of(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return the (h, w) with h w = tokens whose aspect is nearest to height : width."""
    divisors = [h for h in range(1, tokens + 1) if tokens % h == 0]
    best = min(divisors, key=lambda h: abs(math.log(h * h * width / (tokens * height))))
    return best, tokens // best


def _gaussian(x: Tensor, sigma: float | None, dims: int) -> Tensor:
    """Blur the last `dims` dims of [batch, channels, ...]; edges repeat the outermost token."""
    for dim in range(-dims, 0):
        if sigma is None:
            x = x.mean(dim, keepdim=True).expand_as(x)
            continue
        radius = math.ceil(3 * sigma)
        kernel = torch.exp(
            -0.5 * (torch.arange(-radius, radius + 1, device=x.device, dtype=torch.float32) / sigma) ** 2
        )
        index = torch.arange(x.shape[dim], device=x.device)
        near = (index[:, None] + torch.arange(-radius, radius + 1, device=x.device)).clamp(0, x.shape[dim] - 1)
        weights = torch.zeros(x.shape[dim], x.shape[dim], device=x.device)
        weights.scatter_add_(1, near, (kernel / kernel.sum()).expand(len(index), -1))
        x = torch.movedim(torch.movedim(x, dim, -1) @ weights.T.to(x.dtype), -1, dim)
    return x
