"""Layers x scales x modes, and prediction methods: the variants of a sweep. Pure; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Literal

from stg_eval.errors import StgEvalError
from stg_eval.signature import Guidance
from stg_eval.terms import Combine, Skip

Mode = Literal["joint", "spatial", "temporal", "both", "unconditional"]
"""Which weak passes get the scale: one that perturbs all of a layer, spatial only, temporal only, or both apart; or the
unconditional pass, which has no scale."""


def sweep_variants(
    base: Guidance, layers: Sequence[str], scales: Sequence[float], modes: Sequence[tuple[str, Mode] | Combine]
) -> list[Guidance]:
    """Return every combination around `base`, whose CFG scale, rescale and Restart all variants share.

    Order: modes outermost, then layers, then scales. A scale of 0 is `base` without any skip, and comes once, first. A
    prediction method among the modes is one variant, and a skip of the unconditional pass one for each layer.
    Raises StgEvalError where a list is empty or names something twice.
    """
    for name, values in (("layers", layers), ("scales", scales), ("modes", modes)):
        if not values or len(set(values)) < len(values):
            raise StgEvalError(f"give {name} for the sweep, each once, not {list(values)}")
    plain = replace(base, skips=(), orthogonal=False)
    blur = next((skip.blur_sigma for skip in base.skips if skip.method == "seg"), None)
    variants = [plain] if 0 in scales else []
    weights = [scale for scale in scales if scale]
    for mode in modes:
        if isinstance(mode, Combine):
            variants.append(replace(plain, combine=mode))
            continue
        method, which = mode
        for layer, scale in product(layers, weights[:1] if which == "unconditional" else weights):
            skip = Skip(
                method=method,
                layers=(layer,),
                spatial_scale=scale if which in ("spatial", "both") else 0,
                temporal_scale=scale if which in ("temporal", "both") else 0,
                joint_scale=scale if which == "joint" else 0,
                unconditional=which == "unconditional",
                blur_sigma=blur if method == "seg" else None,
            )
            variants.append(replace(plain, skips=(skip,), orthogonal=base.orthogonal and which == "both"))
    return variants
