"""Turns suite x model x guidance into the requests of a run and their cost. Pure: nothing is loaded or written."""

from __future__ import annotations

import gc
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np

from stg_eval import generators
from stg_eval.generators import ModelCard, Preset
from stg_eval.metrics import MetricCard
from stg_eval.metrics import registry as metrics
from stg_eval.pipeline.requests import make_requests, weights_identity
from stg_eval.pipeline.settings import chosen_card, typed
from stg_eval.statistics.counting import Counting
from stg_eval.suites import Suite, open_dataset, samples
from stg_eval.types import Case, Guidance, JSONValue, Request, StgEvalError


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table: a named guidance."""

    name: str
    guidance: Guidance
    published: Mapping[str, float]
    source: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan holds everything that a run will make and score; nothing is loaded for it."""

    suite: Suite
    card: ModelCard
    variants: tuple[Variant, ...]
    baseline: str
    metrics: tuple[MetricCard, ...]
    pairs: tuple[MetricCard, ...] = ()
    """Metrics that compare each clip with the baseline's of the same case and seed."""
    totals: tuple[MetricCard, ...] = ()
    """Sums of metrics: nothing is computed for them but the sum."""
    requests: Mapping[str, tuple[Request, ...]]
    """Variant name -> its requests, all variants in the same order of (case, seed)."""
    batch_size: int
    settings: Mapping[str, JSONValue]
    """What `--set` and the suite changed, for the record."""

    @property
    def cards(self) -> tuple[MetricCard, ...]:
        """All metrics of the table."""
        return (*self.metrics, *self.pairs, *self.totals)

    def only(self, names: Container[str]) -> Plan:
        """Return the plan without the metrics that are not among `names`."""
        metrics, pairs = (tuple(c for c in cards if c.name in names) for cards in (self.metrics, self.pairs))
        return replace(self, metrics=metrics, pairs=pairs)

    def batches(self, variant: str) -> list[tuple[Request, ...]]:
        """Cut a variant's requests into fixed batches: resuming must not change which clips are made together."""
        requests = self.requests[variant]
        return [requests[i : i + self.batch_size] for i in range(0, len(requests), self.batch_size)]

    def tflops(self, variant: str) -> float:
        """Compute the denoiser's TFLOP for one clip of a variant: passes a step (shared prefix) x steps x the card's
        count for one pass, which holds at the card's default size. Steps that Restart repeats are not in it: how many
        there are, only the loaded scheduler knows."""
        request = self.requests[variant][0]
        passes = generators.get(self.card.name).cost(request.guidance, request.num_inference_steps)
        return passes * request.num_inference_steps * self.card.tflops_per_pass

    def scored(self, metric: MetricCard, variant: str) -> np.ndarray:
        """Tell for each request of a variant whether the metric is computed on its clip, bool [requests]."""
        tags = [request.case.tags for request in self.requests[variant]]
        return counting(self.suite).computed(metric.name, tags)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python from looking for garbage: hundreds of thousands of objects come, all stay, and going through them
    again and again would take a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_no_collection()
def make_plan(
    suite: Suite,
    model: str,
    *,
    guidance: Sequence[str] = (),
    metric_names: Sequence[str] = (),
    limit: int | None = None,
    fraction: float | None = None,
    seeds: int | None = None,
    settings: Mapping[str, str | JSONValue] | None = None,
    allow_few: bool = False,
    dry: bool = False,
) -> Plan:
    """Make the plan of a run: every request of every variant.

    `guidance` takes the card's preset names or signatures; empty means the suite's. `settings` are `--set` values
    (`stg_eval.pipeline.settings`). `allow_few` lets a set metric with too few clips pass; its cell then says so. A
    `dry` plan is for counting: data that is not there gets stand-ins.

    Raises StgEvalError for an unknown model, metric, preset or setting (with the nearest name), for too few clips, and
    for a suite that does not fit the model.
    """
    card = generators.card(model)
    chosen = {**suite.generation, **(settings or {})}
    card, model_settings = chosen_card(card, chosen)
    variants = tuple(_variant(card, name) for name in (guidance or suite.guidance))
    duplicates = {v.name for v in variants if sum(w.guidance == v.guidance for w in variants) > 1}
    if duplicates:
        raise StgEvalError(f"guidance {' and '.join(sorted(duplicates))} are the same; give each once")
    baseline = suite.baseline if suite.baseline in {v.name for v in variants} else variants[0].name
    pairs = list(samples(suite, open_dataset(suite), limit=limit, fraction=fraction, seeds=seeds, dry=dry))
    if not pairs:
        raise StgEvalError(f"suite {suite.name!r} has no cases to show; give a larger --limit or --fraction")
    names = list(metric_names or suite.metrics)
    filters = [metrics.card(name).filter for name in names if name in suite.keep_static]
    chosen_metrics = [metrics.card(name) for name in dict.fromkeys([*names, *filters])]
    cards = tuple(card for card in chosen_metrics if card.load)
    if not allow_few:
        _enough(cards, suite, [case for case, _ in pairs])
    weights = weights_identity(card.weights)
    requests = {v.name: make_requests(card, weights, v.guidance, pairs, model_settings) for v in variants}
    for made in requests.values():
        generators.get(model).check(made[0])
    return Plan(
        suite=suite,
        card=card,
        variants=variants,
        baseline=baseline,
        metrics=cards,
        pairs=tuple(card for card in chosen_metrics if card.load_pair),
        totals=tuple(card for card in chosen_metrics if card.parts),
        requests=requests,
        batch_size=card.batch_size,
        settings={key: typed(value) for key, value in chosen.items()},
    )


def counting(suite: Suite) -> Counting:
    """Say which clips each metric of a suite counts."""
    return Counting(
        metric_clips=suite.metric_clips,
        score_by_tag=suite.score_by_tag,
        keep=suite.keep_static,
        filters={name: metrics.card(name).filter for name in suite.keep_static},
    )


def _variant(card: ModelCard, name: str) -> Variant:
    if name in card.presets:
        preset: Preset = card.presets[name]
        return Variant(name=name, guidance=preset.guidance, published=preset.published, source=preset.source)
    if name != "none" and not re.search(r"\d", name):  # a signature has numbers, a preset's name has none
        near = get_close_matches(name, card.presets, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"unknown guidance {name!r} for {card.name}{hint} (presets: {', '.join(card.presets)})")
    guidance = Guidance.parse(name)
    generators.get(card.name).cost(guidance)  # refuses now what the model does not have: a layer, a kind of attention
    for preset in card.presets.values():
        if preset.guidance == guidance:
            return Variant(name=name, guidance=guidance, published=preset.published, source=preset.source)
    return Variant(name=name, guidance=guidance, published={}, source="")


def _enough(cards: Sequence[MetricCard], suite: Suite, cases: Sequence[Case]) -> None:
    real = suite.reference_clips or 0
    rule, tags = counting(suite), [case.tags for case in cases]
    for metric in cards:
        if metric.needs_reference and not real:
            raise StgEvalError(f"{metric.name} compares with real clips, and suite {suite.name!r} has none; drop it")
        if metric.needs_reference and real < metric.min_clips:
            raise StgEvalError(
                f"{metric.name} needs at least {metric.min_clips} real clips and suite {suite.name!r} has "
                f"reference_clips: {real}; raise it, or drop {metric.name}"
            )
        n = int(rule.computed(metric.name, tags).sum())
        if n < metric.min_clips:
            others = ",".join(m.name for m in cards if m.min_clips <= n)
            choose = f"--metrics {others}" if others else "other --metrics"
            raise StgEvalError(
                f"{metric.name} needs at least {metric.min_clips} clips and this run makes {n} for it; "
                f"raise --limit or --seeds, or choose {choose}"
            )
