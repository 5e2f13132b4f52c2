"""The metrics of a run, loaded: by the driver, which asks for signatures, and by whoever scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stg_eval.metrics import ClipScorer, MetricCard, PairScorer, SetMetric, registry
from stg_eval.progress import note
from stg_eval.types import StgEvalError

Loaded = Mapping[str, ClipScorer | SetMetric]
"""Metric name -> its loaded networks."""

ENGINES = ("ours", "official")
"""Who computes VBench's dimensions: our loops around the official networks, or the vbench package."""


def load_metrics(cards: Sequence[MetricCard], device: str, engine: str = "ours") -> dict[str, ClipScorer | SetMetric]:
    """Map metric name -> its loaded networks. With `engine="official"`, VBench's dimensions run in the vbench package
    itself (slower; their signatures say so). Raises StgEvalError for missing weights, before any work is done."""
    if engine not in ENGINES:
        raise StgEvalError(f"unknown engine {engine!r} (known: {', '.join(ENGINES)})")
    if engine == "ours":
        return {card.name: registry.load(card, device) for card in cards}
    from stg_eval.metrics.vbench import official

    return {
        card.name: official.load(card.name, device) if card.name in official.LOADERS else registry.load(card, device)
        for card in cards
    }


def load_available(
    cards: Sequence[MetricCard], device: str, engine: str = "ours"
) -> tuple[dict[str, ClipScorer | SetMetric | PairScorer], dict[str, str]]:
    """What `load_metrics` loads of the metrics, those of pairs too; and name -> why for each that cannot be loaded: it
    costs itself only, and what counts the clips that it picks. A note says so at once.

    Raises StgEvalError where none can be loaded.
    """
    loaded: dict[str, ClipScorer | SetMetric | PairScorer] = {}
    lost: dict[str, str] = {}
    for card in cards:
        try:
            loaded |= {card.name: registry.load_pair(card, device)} if card.load_pair else {}
            loaded |= load_metrics([card], device, engine) if card.load else {}
        except StgEvalError as error:
            lost[card.name] = str(error)
    if lost and not loaded:
        raise StgEvalError(next(iter(lost.values())))
    for card in cards:
        if card.filter in lost and card.name in loaded:
            del loaded[card.name]
            lost[card.name] = f"it counts the clips that {card.filter} passes, and {lost[card.filter]}"
    for name, why in lost.items():
        note(f"{name} is left out: {why}")
    return loaded, lost
