"""Judges each metric: better, worse, same, or cannot tell at this n."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from stg_eval import statistics
from stg_eval.gate import moved
from stg_eval.gate.policy import Policy
from stg_eval.gate.snapshot import Snapshot, reference
from stg_eval.metrics import registry
from stg_eval.statistics.counting import case_means
from stg_eval.storage.results import Column
from stg_eval.types import StgEvalError

Word = Literal["better", "worse", "changed", "same", "cannot tell"]
FAILING = frozenset({"worse", "changed"})
WORST = 5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One metric of one variant."""

    variant: str
    metric: str
    column: Column
    word: Word
    gated: bool
    baseline: float
    value: float
    difference: float
    low: float
    high: float
    margin: float
    p_value: float
    p_holm: float
    """Adjusted over all gated metrics and variants."""
    n: int
    n_to_tell: float
    """About how many pairs would tell; nan unless the word is "cannot tell"."""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Worst:
    """A pair that moved for the worse. Where single clips have no values, before and after are nan: `change` is how far
    the clip's features moved, or, behind the verdict on moved clips, that over what is tolerated."""

    variant: str
    metric: str
    case: str
    prompt: str
    seed: int
    seed_run: int
    before: float
    after: float
    change: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Verdicts on a run."""

    baseline: Path
    run: Path
    verdicts: tuple[Verdict, ...]
    worst: tuple[Worst, ...]
    """Pairs behind every verdict that fails, five a verdict."""
    allowed: tuple[str, ...]
    """Differences that `allow` let pass."""
    changes: tuple[str, ...]
    """What else differs between the two: weights, libraries, hardware."""

    @property
    def regressions(self) -> list[Verdict]:
        """Gated metrics that got worse, or changed where neither direction is better (twice the motion, or half)."""
        return [v for v in self.verdicts if v.word in FAILING and v.gated]


def judge(baseline: Snapshot, run: Snapshot, pairs: pd.DataFrame, policy: Policy) -> list[Verdict]:
    """Judge every variant and metric that both sides have.

    Better and worse (changed, for a metric without a better direction): the Holm-adjusted p-value is within the level,
    and the 95 % interval reaches past the margin. Same: the interval lies within +-margin. Where both sides made clips
    from the same requests, a last verdict says how many of these moved (see `stg_eval.gate.moved`); none is same.
    Raises StgEvalError where one side has a value and the other nan.
    """
    known = {c.name for c in baseline.columns}
    measured = []
    for column in (c for c in run.columns if c.name in known and _measured(c, baseline) and _measured(c, run)):
        measure = _clip_difference if column.kind == "clip" else _set_measure(run, column)
        for variant, rows in pairs.groupby("variant", sort=False):
            measured.append((str(variant), column, *measure(baseline, run, rows, column)))
    made = run.run.request is not None  # a folder's keys are digests of its files: equal keys are equal clips
    for variant, rows in pairs.groupby("variant", sort=False) if made else ():
        distances = moved.distances(baseline, run, rows, policy)
        if not np.isnan(distances).all():
            found = moved.share(distances, policy.margin(moved.COLUMN.name, 0.0))
            measured.append((str(variant), moved.COLUMN, (0.0, found.difference), found, ""))
    order = {str(variant): place for place, variant in enumerate(pairs["variant"].unique())}
    measured.sort(key=lambda row: order[row[0]])
    gated = [
        moved.is_gated(run, policy) if column is moved.COLUMN else policy.gated(column.name)
        for _, column, *_ in measured
    ]
    p_holm = statistics.holm([d.p_value if on else math.nan for (*_, d, _), on in zip(measured, gated, strict=True)])
    return [
        _verdict(variant, column, values, found, note, p if on else found.p_value, on, policy)
        for (variant, column, values, found, note), p, on in zip(measured, p_holm, gated, strict=True)
    ]


def _measured(column: Column, side: Snapshot) -> bool:
    """Tell whether a side has scores or features of a metric: a total is judged by its parts, and some have no
    weights."""
    return column.name in (side.scores if column.kind == "clip" else side.run.features)


def worst_pairs(
    verdict: Verdict, baseline: Snapshot, run: Snapshot, pairs: pd.DataFrame, policy: Policy, most: int = WORST
) -> Iterator[Worst]:
    """Find the pairs that moved most for the worse in a metric, worst first."""
    rows = pairs[pairs["variant"] == verdict.variant]
    if verdict.column.kind == "clip":
        before, after = _values(baseline, run, rows, verdict.column)
        change = after - before
        better = verdict.column.higher_is_better
        harm = np.abs(change) if better is None else -change if better else change
    else:
        if verdict.column.kind == "set":
            rows, features_before, features_after = _counted(baseline, run, rows, verdict.metric)
            change = np.linalg.norm((features_after - features_before).astype(float), axis=1)
        else:
            change = moved.distances(baseline, run, rows, policy)
        harm, before, after = change, *np.full((2, len(rows)), np.nan)
    least = 1 if verdict.column.kind == "pair" else 0  # a pair moved from 1 on
    order = [i for i in np.argsort(-harm, kind="stable") if harm[i] > least][:most]  # nan sorts last and is not > 0
    for i in order:
        row: Any = rows.iloc[i]
        yield Worst(
            variant=verdict.variant,
            metric=verdict.metric,
            case=row["case"],
            prompt=row["prompt"],
            seed=int(row["seed"]),
            seed_run=int(row["seed_run"]),
            before=float(before[i]),
            after=float(after[i]),
            change=float(change[i]),
        )


def _values(baseline: Snapshot, run: Snapshot, rows: pd.DataFrame, column: Column) -> tuple[np.ndarray, np.ndarray]:
    return (
        baseline.scores[column.name].to_numpy(float)[rows["before"]],
        run.scores[column.name].to_numpy(float)[rows["after"]],
    )


def _clip_difference(
    baseline: Snapshot, run: Snapshot, rows: pd.DataFrame, column: Column
) -> tuple[tuple[float, float], statistics.Difference, str]:
    before, after = _values(baseline, run, rows, column)
    clusters = rows["cluster"].to_numpy()
    if column.name in run.run.keep_static:
        clusters, after, before = case_means(rows["case"].to_numpy(), after, before)
    else:
        _both_or_neither(np.isnan(before), np.isnan(after), rows, column)
    found = statistics.paired_mean_difference(after, before, clusters)
    defined = ~np.isnan(after - before)
    if not defined.any():
        return (math.nan, math.nan), found, "no clip has a score"
    return (float(before[defined].mean()), float(after[defined].mean())), found, ""


def _counted(
    baseline: Snapshot, run: Snapshot, rows: pd.DataFrame, metric: str
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return the pairs that a set metric counts on both sides, and their features before and after, [pairs, D]."""
    rows = rows[baseline.counted(metric)[rows["before"]] & run.counted(metric)[rows["after"]]]
    return rows, baseline.set_features(metric)[rows["before"]], run.set_features(metric)[rows["after"]]


def _set_measure(run: Snapshot, column: Column) -> Any:
    card = registry.card(column.name)
    real = reference(run, column.name)

    def measure(
        baseline: Snapshot, run: Snapshot, rows: pd.DataFrame, column: Column
    ) -> tuple[tuple[float, float], statistics.Difference, str]:
        rows, before, after = _counted(baseline, run, rows, column.name)
        kept = ~np.isnan(before).all(axis=1)
        _both_or_neither(~kept, np.isnan(after).all(axis=1), rows, column)
        before, after = before[kept], after[kept]
        if len(after) < card.min_clips:
            nothing = statistics.Difference(math.nan, math.nan, math.nan, math.nan, len(after))
            return (math.nan, math.nan), nothing, f"needs at least {card.min_clips} clips"

        def statistic(features: np.ndarray) -> float:
            return card.of_set(features, real)

        clusters = rows["cluster"].to_numpy()[kept]
        found = statistics.paired_set_difference(statistic, after, before, clusters)
        return (statistic(before), statistic(after)), found, ""

    return measure


def _both_or_neither(before: np.ndarray, after: np.ndarray, rows: pd.DataFrame, column: Column) -> None:
    for lacking, name in ((after & ~before, "run"), (before & ~after, "baseline")):
        if lacking.any():
            row: Any = rows.iloc[int(np.argmax(lacking))]
            raise StgEvalError(
                f"{column.name} is nan in the {name} alone for {int(lacking.sum())} clips, the first of them "
                f"{row['variant']}/{row['case']}/seed {row['seed']}: broken clips, or the metric failed on them"
            )


def _verdict(
    variant: str,
    column: Column,
    values: tuple[float, float],
    found: statistics.Difference,
    note: str,
    p_holm: float,
    gated: bool,
    policy: Policy,
) -> Verdict:
    margin = policy.margin(column.name, values[0])
    n_to_tell = math.nan
    word: Word
    if math.isnan(found.low) or math.isnan(found.high):
        word, note = "cannot tell", note or "fewer than two independent clips"
    elif (-margin <= found.low and found.high <= margin) or (column.kind == "pair" and not found.difference):
        word = "same"  # every pair is, however few they are
    elif p_holm <= policy.level:
        word = "better" if (found.difference > 0) == column.higher_is_better else "worse"
        if column.higher_is_better is None:
            word = "changed"
    else:
        word = "cannot tell"
        n_to_tell = statistics.n_to_tell(found.n, (found.high - found.low) / 2, margin)
    return Verdict(
        variant=variant,
        metric=column.name,
        column=column,
        word=word,
        gated=gated,
        baseline=values[0],
        value=values[1],
        difference=found.difference,
        low=found.low,
        high=found.high,
        margin=margin,
        p_value=found.p_value,
        p_holm=p_holm,
        n=found.n,
        n_to_tell=n_to_tell,
        note=note,
    )
