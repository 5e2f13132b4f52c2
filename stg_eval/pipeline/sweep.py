"""A sweep as one tidy table: a row for each guidance and metric, with what was varied in columns of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

import pandas as pd

from stg_eval.generators.guidance.combinations import Mode, sweep_variants
from stg_eval.methods import PREDICTIONS, SKIPS
from stg_eval.storage.results import Results
from stg_eval.terms import Combine
from stg_eval.types import Guidance, StgEvalError

MODES = get_args(Mode)


def signatures(base: Guidance, layers: Sequence[str], scales: Sequence[str], modes: Sequence[str]) -> list[str]:
    """Return guidance signatures of every combination, `base` without any skip first: it is what the others compare
    with.

    `modes` are written method:which, e.g. stg-a:both or stg-r:joint, or are prediction methods as in a signature, e.g.
    apg[norm=5]. Raises StgEvalError for what cannot be read.
    """
    chosen: list[tuple[str, Mode] | Combine] = []
    for mode in modes:
        method, _, which = mode.partition(":")
        if method in SKIPS and which in MODES:
            chosen.append((method, which))  # type: ignore[arg-type]
        elif re.split(r"[^\w-]", method)[0] in (*PREDICTIONS, "guider"):
            chosen.append(Guidance.parse(f"cfg2+{mode}").combine)  # type: ignore[arg-type]
        else:
            raise StgEvalError(
                f"cannot read mode {mode!r}; write it like stg-a:both (methods: {', '.join(SKIPS)}; which: "
                f"{', '.join(MODES)}), or name one of {', '.join(PREDICTIONS)}"
            )
    try:
        numbers = [float(scale) for scale in scales]
    except ValueError as error:
        raise StgEvalError(f"--scales are numbers such as 0.5,1,2: {error}") from error
    with_base = [0.0, *(n for n in numbers if n)]
    return [str(guidance) for guidance in sweep_variants(base, layers, with_base, chosen)]


def tidy(results: Results) -> pd.DataFrame:
    """Return one row for each variant and metric of a run: signature, cfg_scale, method, mode, layer, scale, then the
    metric's value, interval, n, and paired difference from the baseline. Unscaled values, as metrics return them."""
    rows = []
    for estimate in results.estimates:
        signature = results.run.variant(estimate.variant).signature
        guidance = Guidance.parse(signature)
        rows.append(
            {
                "signature": signature,
                "cfg_scale": guidance.cfg_scale,
                "method": _method(guidance),
                "mode": _mode(guidance),
                "layer": ",".join(guidance.layers),
                "scale": max(guidance.spatial_scale, guidance.temporal_scale, guidance.joint_scale),
                "metric": estimate.metric,
                "value": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "n": estimate.n,
                "difference": estimate.difference,
                "difference_low": estimate.difference_low,
                "difference_high": estimate.difference_high,
                "p_value": estimate.p_value,
            }
        )
    return pd.DataFrame(rows)


def _method(guidance: Guidance) -> str:
    named = [*(skip.method for skip in guidance.skips), *([guidance.combine.method] if guidance.combine else [])]
    return "+".join(named) or "none"


def _mode(guidance: Guidance) -> str:
    if any(skip.unconditional for skip in guidance.skips):
        return "unconditional"
    if guidance.spatial_scale and guidance.temporal_scale:
        return "both"
    named = (
        ("spatial", guidance.spatial_scale),
        ("temporal", guidance.temporal_scale),
        ("joint", guidance.joint_scale),
    )
    return next((name for name, scale in named if scale), "none")
