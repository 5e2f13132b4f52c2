"""What a guidance costs, told from the layer map alone: no denoiser is built. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stg_eval.generators.guidance.layers import LayerMap, unconditional_blocks, weak_passes
from stg_eval.methods import SKIPS
from stg_eval.signature import Guidance
from stg_eval.terms import Moment, Window


def passes_a_step(
    guidance: Guidance,
    layer_map: LayerMap,
    num_layers: int,
    num_steps: int,
    shares: Mapping[str, float] | None = None,
) -> float:
    """Return passes of the denoiser a step, on average over a run of num_steps: 1, or 2 with CFG, and every weak pass.

    A weak pass costs the share of the blocks from its first skipped one on (the prefix is shared), less those that are
    left out altogether. shares: path of a block -> that share, counted, where blocks do not all cost the same. A term
    costs in its window only; one by noise level is counted as if it acted in every step, since only the loaded
    scheduler knows the levels. Restart's repeated steps are not in it.

    Raises StgEvalError, as the engine would, for layers and scales that the model does not have.
    """
    outline: Any = _Outline(num_layers)
    blocks = [path for layer in layer_map.layers(outline) for path in layer.blocks.values()]
    moments = [Moment(step, num_steps) for step in range(num_steps)]

    def acting(window: Window | None) -> float:
        if window is None or window.unit == "n":
            return 1.0
        return sum(moment in window for moment in moments) / num_steps

    passes = 1.0
    if not guidance.cfg_pieces:
        passes += guidance.cfg_scale != 1
    passes += min(1.0, sum(acting(piece.window) for piece in guidance.cfg_pieces if piece.value != 1))
    if guidance.auto and guidance.auto.scale:
        passes += acting(guidance.auto.window)  # as if the weaker network were of the same size
    for skip in guidance.skips:
        if skip.unconditional:
            found = unconditional_blocks(outline, skip, layer_map)
            if SKIPS[skip.method].leaves_out and shares is None:
                passes -= acting(skip.window) * len(found) / len(blocks)
    for weak in weak_passes(outline, guidance, layer_map):
        skipped = {blocks.index(path) for _, path in weak.blocks}
        left_out = len(skipped) if SKIPS[weak.skip.method].leaves_out else 0
        share = (len(blocks) - min(skipped) - left_out) / len(blocks)
        if shares is not None:
            share = max(shares[path] for _, path in weak.blocks)
        passes += acting(weak.skip.window) * share
    return passes


class _Outline:
    """All that a layer map asks of a denoiser: how long its module lists are."""

    def __init__(self, num_layers: int) -> None:
        self.num_layers = num_layers

    def get_submodule(self, _: str) -> range:
        return range(self.num_layers)
