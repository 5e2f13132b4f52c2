"""What a guidance costs, told from the layer map alone: no denoiser is built. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stg_eval.generators.guidance.layers import LayerMap, weak_passes
from stg_eval.types import Guidance


def passes_a_step(
    guidance: Guidance, layer_map: LayerMap, num_layers: int, shares: Mapping[str, float] | None = None
) -> float:
    """Passes of the denoiser a step: 1, or 2 with CFG, and every weak pass.

    A weak pass costs the share of the blocks from its first skipped one on (the prefix is shared), less those that a
    residual skip leaves out. shares: path of a block -> that share, counted, where blocks do not all cost the same.
    Restart's repeated steps are not in it.

    Raises StgEvalError, as the engine would, for layers and scales that the model does not have.
    """
    outline: Any = _Outline(num_layers)
    blocks = [path for layer in layer_map.layers(outline) for path in layer.blocks.values()]
    passes = 1.0 if guidance.cfg_scale == 1 else 2.0
    for weak in weak_passes(outline, guidance, layer_map):
        if shares is not None:
            passes += max(shares[path] for _, path in weak.blocks)
            continue
        skipped = {blocks.index(path) for _, path in weak.blocks}
        left_out = len(skipped) if guidance.method == "stg-r" else 0
        passes += (len(blocks) - min(skipped) - left_out) / len(blocks)
    return passes


class _Outline:
    """All that a layer map asks of a denoiser: how long its module lists are."""

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers

    def get_submodule(self, _: str) -> range:
        return range(self.num_layers)
