"""Totals of a table: sums over metrics that are in it, with intervals that resample prompts over all of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from stg_eval import statistics
from stg_eval.metrics import MetricCard
from stg_eval.pipeline.estimates import cell, clusters_of, column_of, rows_of
from stg_eval.statistics import counting
from stg_eval.storage.results import Column, Estimate

VERSION = "v1"


def columns(totals: Sequence[MetricCard], parts: Sequence[Column]) -> tuple[Column, ...]:
    """Return totals as a table names them; each is signed with a digest of its parts' signatures."""
    signatures = {part.name: part.signature for part in parts}
    out = []
    for card in totals:
        lines = "".join(f"{part}  {signatures.get(part.metric, '-')}\n" for part in card.parts)
        out.append(column_of(card, f"{card.name}|{hashlib.sha256(lines.encode()).hexdigest()[:8]}|{VERSION}"))
    return tuple(out)


def cells(
    scores: pd.DataFrame,
    totals: Sequence[MetricCard],
    *,
    baseline: str | None,
    cluster: Literal["case", "sample"],
    published: Mapping[str, Mapping[str, float]],
    by_case: Collection[str] = (),
) -> tuple[Estimate, ...]:
    """Return one Estimate for each variant and total; arguments as `stg_eval.pipeline.estimates.cells` has them.

    A total with an absent part has no value: its cell says which are absent. A clip counts in a difference for the
    parts that score it on both sides.
    """
    out = []
    for variant in dict.fromkeys(scores["variant"]):
        ours = rows_of(scores, variant)
        theirs = rows_of(scores, baseline) if baseline not in (None, variant) else None
        for card in totals:
            absent = [p.metric for p in card.parts if p.metric not in ours or ours[p.metric].isna().all()]
            names = [part.metric for part in card.parts]
            if absent:
                found = cell(statistics.Interval(math.nan, math.nan, math.nan, 0), None, _absent(card, absent))
            else:
                found = _cell(card, ours[names], theirs[names] if theirs is not None else None, cluster, by_case)
            out.append(
                Estimate(
                    variant=variant,
                    metric=card.name,
                    baseline=baseline if theirs is not None else None,
                    published=published.get(variant, {}).get(card.name),
                    **found,
                )
            )
    return tuple(out)


def value(card: MetricCard, means: Mapping[str, float]) -> float:
    """Return the total of the means of its parts. Raises KeyError for an absent one."""
    return sum(p.weight * (means[p.metric] - p.low) / (p.high - p.low) for p in card.parts)


def _cell(
    card: MetricCard, ours: pd.DataFrame, theirs: pd.DataFrame | None, cluster: str, by_case: Collection[str]
) -> dict[str, object]:
    slopes = [part.weight / (part.high - part.low) for part in card.parts]
    offset = value(card, dict.fromkeys(ours.columns, 0.0))
    interval = statistics.weighted_interval(ours.to_numpy(float), slopes, clusters_of(ours, cluster))
    interval = interval._replace(value=interval.value + offset, low=interval.low + offset, high=interval.high + offset)
    difference = None
    if theirs is not None:
        theirs = theirs.reindex(ours.index)
        for name in by_case:  # what a filter picked is paired by the mean of its picks, which stands in one row a case
            if name in ours:
                ours, theirs = _means_in_first_rows(ours, theirs, name)
        difference = statistics.paired_weighted_difference(
            ours.to_numpy(float), theirs.to_numpy(float), slopes, clusters_of(ours, cluster)
        )
    return cell(interval, difference)


def _means_in_first_rows(ours: pd.DataFrame, theirs: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    cases = np.array([case for case, _ in ours.index], dtype=object)
    _, *means = counting.case_means(cases, ours[name].to_numpy(float), theirs[name].to_numpy(float))
    first = ~pd.Series(cases).duplicated().to_numpy()
    out = []
    for side, of_cases in zip((ours, theirs), means, strict=True):
        column = np.full(len(cases), math.nan)
        column[first] = of_cases
        out.append(side.assign(**{name: column}))
    return out[0], out[1]


def _absent(card: MetricCard, names: Sequence[str]) -> str:
    return f"{card.short} needs {', '.join(names)} too, which this run has no scores of"
