"""Guidance methods, one row each: what its signature may say, what it costs, and the function that does it.

A method is added by a row and its function. Functions are named by their paths, so that a plan knows every method
without importing torch; `stg_eval.generators.guidance` loads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class SkipMethod:
    """Perturbs a layer in a weak pass, or in the unconditional one."""

    function: str
    """module:function with (block, kind, `skips.Site`) -> (module to patch, its replacement forward)."""
    leaves_out: bool = False
    """The block is not computed at all, which a pass costs less."""
    blurs: bool = False
    """Its scales may be followed by b<sigma>, see `Skip.blur_sigma`."""


@dataclass(frozen=True, kw_only=True)
class PredictionMethod:
    """Combines a step's predictions in another way than classifier-free guidance."""

    function: str
    """module:function with (c, u, scale, `predictions.Step`, **parameters) -> the guided prediction."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """What a signature may set, with the defaults."""


_SKIPS, _PREDICTIONS = "stg_eval.generators.guidance.skips", "stg_eval.generators.guidance.predictions"

SKIPS: Mapping[str, SkipMethod] = {
    "stg-a": SkipMethod(function=f"{_SKIPS}:identity_attention"),
    "stg-r": SkipMethod(function=f"{_SKIPS}:residual_block", leaves_out=True),
    "stg-i": SkipMethod(function=f"{_SKIPS}:attention_input"),
    "seg": SkipMethod(function=f"{_SKIPS}:blurred_queries", blurs=True),
}

PREDICTIONS: Mapping[str, PredictionMethod] = {
    "apg": PredictionMethod(function=f"{_PREDICTIONS}:apg", parameters={"eta": 0.0, "norm": 15.0, "momentum": -0.5}),
    "zero": PredictionMethod(function=f"{_PREDICTIONS}:cfg_zero_star", parameters={"steps": 1.0}),
    "tcfg": PredictionMethod(function=f"{_PREDICTIONS}:tcfg"),
    "fdg": PredictionMethod(function=f"{_PREDICTIONS}:fdg", parameters={"low": 1.0}),
    "mag": PredictionMethod(function=f"{_PREDICTIONS}:magnitude_aware", parameters={"alpha": 8.0}),
}
