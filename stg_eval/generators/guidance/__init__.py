"""The paper: CFG, Spatiotemporal Skip Guidance and its relatives around any denoiser (arXiv 2411.18664).

    from stg_eval.generators.guidance import LayerMap, guided, stack
    from stg_eval.types import Guidance

    LAYER_MAP = LayerMap(
        model="My model",
        layers=stack(spatial="spatial_blocks", temporal="temporal_blocks"),  # module lists, in execution order
        first=0,                      # number of the first layer in the published numbering
        attention="attn",             # a block's self-attention: diffusers' own, or one with .qkv and .proj
        streams=("x",),               # what a block updates: its first input here
    )
    guidance = Guidance.parse("cfg7+stg-a[11]s2t2")
    with guided(pipeline.transformer, guidance, LAYER_MAP, batch_order="uc") as predictions:
        video = pipeline(prompt, guidance_scale=guidance.cfg_scale, ...)

The denoiser is any nn.Module that returns a tensor, a tuple or a diffusers output, called with one tensor batch whose
rows are `batch_order`: "c" (no CFG), "uc" ([unconditional, conditional]), "cu", or "c,u" (two calls a step). The skip
term is added to what it returns, for both halves alike, so the caller's CFG gives u + g (c - u) + w (c - p) as it is.
Pass `scheduler=` and `generators=` (one torch.Generator a sample) where guidance may have windows, other combinations,
rescale or restart, and call the scheduler's set_timesteps within the context. On exit everything is restored, whatever
happened.

`layers` in a Guidance are published numbers or exact module paths (of a layer, or of one of its blocks).

Modules: equations (the formulas), layers (where a model's layers are), costs (passes a step), skips and predictions
(the functions of `stg_eval.methods`), guiders (diffusers' own), engine (strong pass, weak passes, what the pipeline
gets), prefix (what is shared), clock (where in its run a pipeline is), schedulers (rescale, Restart), views (one-step
predictions), combinations.
Only this name is imported without torch: `guided` and `Predictions` load it on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stg_eval.generators.guidance.layers import Layer, LayerMap, stack

if TYPE_CHECKING:
    from stg_eval.generators.guidance.engine import BatchOrder, Predictions, guided

__all__ = ["BatchOrder", "Layer", "LayerMap", "Predictions", "guided", "stack"]


def __getattr__(name: str) -> Any:
    if name in ("BatchOrder", "Predictions", "guided"):
        from stg_eval.generators.guidance import engine

        return getattr(engine, name)
    raise AttributeError(name)
