"""Finds every checkpoint that a metric or a model needs, by name."""

from __future__ import annotations

from difflib import get_close_matches

from stg_eval import generators
from stg_eval.metrics import registry
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight


def catalogue() -> dict[str, Weight]:
    """List the rows of all metrics, those of plug-ins too, then of all models."""
    cards = (*registry.METRICS.values(), *registry.plug_ins().values())
    of_models = (row for model in generators.models() for row in model.checkpoints)
    return {row.name: row for row in (*(row for card in cards for row in card.weights), *of_models)}


def named(name: str) -> Weight:
    """Return the row of a checkpoint. Raises StgEvalError with the nearest name for an unknown one."""
    known = catalogue()
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"unknown weights {name!r}{hint} (known: {', '.join(known)})")
    return known[name]
