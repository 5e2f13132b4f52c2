"""Scores of clips -> the cells of a table: values, intervals, paired differences from the baseline."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from stg_eval import statistics
from stg_eval.datasets.dataset import Reference
from stg_eval.metrics import ClipScorer, MetricCard, PairScorer, SetMetric, registry
from stg_eval.statistics import counting
from stg_eval.storage.record import FeaturesOf, RealClips
from stg_eval.storage.results import Column, Estimate
from stg_eval.storage.store import Store

NAN = math.nan


def columns(
    cards: Sequence[MetricCard], loaded: Mapping[str, ClipScorer | SetMetric | PairScorer], cells: Sequence[Estimate]
) -> tuple[Column, ...]:
    """Return the metrics as a table names them; a set metric's signature says n where all variants have the same."""
    out = []
    for card in cards:
        signature = loaded[card.name].signature
        counts = {one.n for one in cells if one.metric == card.name}
        if card.kind == "set" and len(counts) == 1:
            signature = registry.signed(signature, counts.pop())
        out.append(column_of(card, signature))
    return tuple(out)


def column_of(card: MetricCard, signature: str) -> Column:
    """Return a metric as a table names it."""
    names = ("name", "title", "short", "higher_is_better", "scale", "digits", "note", "kind", "filter")
    paired = card.load_pair is not None
    return Column(signature=signature, paired=paired, **{name: getattr(card, name) for name in names})


def missing_column(card: MetricCard) -> Column:
    """Return the column of a metric that could not be loaded."""
    return replace(column_of(card, f"{card.name}|not scored"), kind="missing")


def cells(
    scores: pd.DataFrame,
    cards: Sequence[MetricCard],
    loaded: Mapping[str, ClipScorer | SetMetric | PairScorer],
    store: Store,
    reference: Mapping[str, np.ndarray],
    *,
    baseline: str | None,
    cluster: Literal["case", "sample"],
    published: Mapping[str, Mapping[str, float]],
    by_case: Collection[str] = (),
) -> tuple[Estimate, ...]:
    """Return one Estimate for each variant and metric.

    `scores` has one row a clip that was asked for (Results.scores); rows of two variants are paired by (case, seed).
    `reference` maps extractor signatures to the real clips' features float32 [M, D]. Intervals resample cases
    (`cluster="case"`: prompts are a sample of prompts) or clips ("sample": the classes are all there are). Metrics in
    `by_case` count those clips of a case that a filter picks for each variant anew (see `counting.case_means`).
    """
    out = []
    for variant in dict.fromkeys(scores["variant"]):
        for card in cards:
            if card.load_pair and variant == baseline:  # what the others are compared with
                continue
            metric = loaded[card.name]
            ours = rows_of(scores, variant)
            theirs = rows_of(scores, baseline) if baseline not in (None, variant) else None
            if isinstance(metric, SetMetric):
                numbers = _set_cell(card, metric, ours, theirs, cluster, store, reference)
            else:
                numbers = _clip_cell(card, ours, theirs, cluster, card.name in by_case)
            out.append(
                Estimate(
                    variant=variant,
                    metric=card.name,
                    baseline=baseline if theirs is not None else None,
                    published=published.get(variant, {}).get(card.name),
                    **numbers,
                )
            )
    return tuple(out)


def not_scored(metrics: Mapping[str, str], variants: Sequence[str]) -> tuple[Estimate, ...]:
    """Return one Estimate without value for each variant and metric that could not be loaded; `metrics` says why."""
    nothing = statistics.Interval(NAN, NAN, NAN, 0)
    return tuple(
        Estimate(variant=variant, metric=name, baseline=None, **cell(nothing, None, why))
        for variant in variants
        for name, why in metrics.items()
    )


def features_record(
    cards: Sequence[MetricCard], loaded: Mapping[str, ClipScorer | SetMetric | PairScorer], reference: Reference | None
) -> dict[str, FeaturesOf]:
    """Set metric -> where its features are in the store: the extractor's signature, and the real clips' digest and
    count (`score.reference_features` has their keys). A comparison reads them without loading a network."""
    real = RealClips(digest=reference.digest, count=reference.count) if reference else None
    return {
        card.name: FeaturesOf(extractor=metric.extractor.signature, reference=real if card.needs_reference else None)
        for card in cards
        if isinstance(metric := loaded.get(card.name), SetMetric)
    }


def rows_of(scores: pd.DataFrame, variant: str | None) -> pd.DataFrame:
    """Return rows of Results.scores of one variant, by (case, seed)."""
    return scores[scores["variant"] == variant].set_index(["case", "seed"])


def clusters_of(rows: pd.DataFrame, cluster: str) -> list[object]:
    """Say what is resampled together: the clips of a case, or each for itself."""
    return [case if cluster == "case" else (case, seed) for case, seed in rows.index]


def cell(interval: statistics.Interval, difference: statistics.Difference | None, problem: str = "") -> dict[str, Any]:
    """Return the numbers of an Estimate."""
    d = difference or statistics.Difference(NAN, NAN, NAN, NAN, 0)
    return {
        "value": interval.value,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "difference": d.difference,
        "difference_low": d.low,
        "difference_high": d.high,
        "p_value": d.p_value,
        "problem": problem,
    }


def _clip_cell(
    card: MetricCard, ours: pd.DataFrame, theirs: pd.DataFrame | None, cluster: str, by_case: bool
) -> dict[str, Any]:
    values = ours[card.name].to_numpy(float)
    clusters: Sequence[object] | np.ndarray = clusters_of(ours, cluster)
    interval = statistics.mean_interval(values, clusters)
    difference = None
    if theirs is not None:
        other = theirs[card.name].reindex(ours.index).to_numpy(float)
        if by_case:
            clusters, values, other = counting.case_means([case for case, _ in ours.index], values, other)
        difference = statistics.paired_mean_difference(values, other, clusters)
    return cell(interval, difference, "" if interval.n else "no clip has a score")


def _set_cell(
    card: MetricCard,
    metric: SetMetric,
    ours: pd.DataFrame,
    theirs: pd.DataFrame | None,
    cluster: str,
    store: Store,
    reference: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    real = reference.get(metric.extractor.signature)

    def statistic(features: np.ndarray) -> float:
        return card.of_set(features, real)

    features = _features(ours, card, metric, store)
    if len(features) < card.min_clips:
        return cell(
            statistics.Interval(NAN, NAN, NAN, len(features)),
            None,
            f"{card.short} needs at least {card.min_clips} clips, and {len(features)} have features",
        )
    interval = statistics.set_interval(
        statistic, np.stack(list(features)), clusters_of(ours.loc[features.index], cluster)
    )
    interval = interval._replace(low=max(interval.low, card.limits[0]), high=min(interval.high, card.limits[1]))
    difference = None
    if theirs is not None:
        other = _features(theirs, card, metric, store)
        both = features.index.intersection(other.index, sort=False)
        if len(both) >= card.min_clips:
            difference = statistics.paired_set_difference(
                statistic,
                np.stack(list(features.loc[both])),
                np.stack(list(other.loc[both])),
                clusters_of(ours.loc[both], cluster),
                label_swaps=0,  # a table shows the interval; the gate, which lives by p-values, swaps labels
            )
    return cell(interval, difference)


def _features(rows: pd.DataFrame, card: MetricCard, metric: SetMetric, store: Store) -> pd.Series:
    """Return features of those rows that count and have them, by (case, seed)."""
    rows = rows[counting.counted(rows, card.name)]
    found = store.features(list(rows["key"]), metric.extractor.signature)
    have = rows[rows["key"].isin(found.keys())]
    return pd.Series([found[key] for key in have["key"]], index=have.index, dtype=object)
