"""Counts clips that moved: pairs of one and the same request whose two clips are not the same clip.

Scores say whether videos got worse; a lost bit of precision or a stale buffer may change clips and hardly a mean. Where
both runs made a clip from the same request (model, weights, guidance, prompt, seed, steps, size, ...), the same clip is
expected, up to what rounding does to it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy  # brings in scipy.stats, which is slow to import, when it is first used

from stg_eval.gate.policy import MOVED, Policy
from stg_eval.gate.snapshot import Snapshot
from stg_eval.statistics import Difference
from stg_eval.storage.results import Column

FAR = 0.02
"""A clip moved if its features lie farther from its partner's than this part of the typical (root mean square) distance
between two clips of the baseline. Rounding alone stays far below in float32 (`benchmarks/compare_power.py`)."""

COLUMN = Column(
    name=MOVED,
    title="Clips moved, %",
    short="moved",
    higher_is_better=None,
    scale=100.0,
    digits=1,
    signature=f"{MOVED}|{FAR}|v1",
    note="",
    kind="pair",
)


def is_gated(run: Snapshot, policy: Policy) -> bool:
    """Tell whether moved clips fail the gate. By default in float32 alone: in half precision an equally good kernel
    draws other clips (bfloat16, matrices by another library: 6 % of the embedded model's moved; float32: none)."""
    if policy.moved is not None:
        return policy.moved
    return run.run.request is not None and run.run.request.dtype == "float32"


def distances(baseline: Snapshot, run: Snapshot, rows: pd.DataFrame, policy: Policy) -> np.ndarray:
    """Measure how far each pair moved, in units of what counts as moved: above 1 it did. float64 [rows], nan where the
    two requests differ, or nothing is known of both clips.

    The largest of all features (unit: `FAR`) and all clip scores (unit: the smallest difference that matters).
    """
    before, after = rows["before"].to_numpy(), rows["after"].to_numpy()
    moved = np.full(len(rows), np.nan)
    for extractor in baseline.features.keys() & run.features.keys():
        x, y = (
            side.astype(np.float64) for side in (baseline.features[extractor][before], run.features[extractor][after])
        )
        if not x.shape[1] or np.isnan(x).all():
            continue
        typical = np.sqrt(2 * np.nanvar(x, axis=0).sum())
        moved = np.fmax(moved, _ratio(np.linalg.norm(y - x, axis=1), FAR * typical))
    for column in (c for c in run.columns if c.kind == "clip" and c.name in baseline.scores):
        a, b = baseline.scores[column.name].to_numpy(float)[before], run.scores[column.name].to_numpy(float)[after]
        if np.isfinite(a).any():
            moved = np.fmax(moved, _ratio(np.abs(b - a), policy.margin(column.name, float(np.nanmean(a)))))
    same_request = baseline.scores["key"].to_numpy()[before] == run.scores["key"].to_numpy()[after]
    return np.where(same_request, moved, np.nan)


def share(moved: np.ndarray, limit: float) -> Difference:
    """Return share of the pairs that moved, with its exact (Clopper-Pearson) 95 % interval, and the p-value of no more
    than `limit` of all clips moving (binomial test)."""
    known = moved[~np.isnan(moved)]
    count = int((known > 1).sum())
    interval = scipy.stats.binomtest(count, len(known)).proportion_ci(0.95)
    p_value = scipy.stats.binomtest(count, len(known), limit, alternative="greater").pvalue
    return Difference(count / len(known), interval.low, interval.high, float(p_value), len(known))


def _ratio(distance: np.ndarray, unit: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = distance / unit if unit > 0 else np.full(len(distance), np.nan)  # no scale to judge by
        return np.where(distance == 0, 0.0, ratio)
