"""Which clips a metric counts: one rule, which plans, results, tables, pages and the gate ask.

A suite may compute a metric on the first N clips of a variant only, or only on clips of cases that have its name as a
tag; and it may count only the first clips of a case that another metric, its filter, passes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Counting:
    """What a suite says about it, and the record of a run repeats; see `stg_eval.suites.Suite`."""

    metric_clips: Mapping[str, int] = field(default_factory=dict)
    score_by_tag: bool = False
    keep: Mapping[str, int] = field(default_factory=dict)
    """Metric -> how many clips of a case count: the first N that its filter passes."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Metric of `keep` -> its filter, a metric that gives 1 to what passes."""
    paired: frozenset[str] = frozenset()
    """Metrics that compare a clip with the baseline's: on every clip but the baseline's own."""

    def computed(self, metric: str, tags: Sequence[Collection[str]], *, is_baseline: bool = False) -> np.ndarray:
        """Tell on which of a variant's clips the metric is computed, bool [clips]; `tags` are those of their cases, in
        the order of the plan. A filter is computed wherever a metric is that it filters."""
        if metric in self.paired:
            return np.full(len(tags), not is_baseline)
        first = self.metric_clips.get(metric, len(tags))
        names = {metric, *(name for name in self.keep if self.filters.get(name) == metric)}
        within: np.ndarray = np.arange(len(tags)) < first
        if not self.score_by_tag:
            return within
        within &= np.array([not names.isdisjoint(of_case) for of_case in tags], bool)
        return within

    def kept(self, scores: pd.DataFrame) -> pd.DataFrame:
        """Return Results.scores with each metric of `keep` blanked (nan) where it does not count.

        The first clips of a case are those in VBench's order, which sorts file names: sample 0, 1, 10, 11, ..., 19, 2,
        20, ... A case with fewer clips that pass keeps those it has.
        """
        for metric, most in self.keep.items():
            if metric in scores:
                index = (scores["seed"] - scores["seed"].min()).astype(str) + ".mp4"
                passed = scores.assign(_index=index)[scores[self.filters[metric]] == 1].sort_values("_index")
                kept = passed.groupby(["variant", "case"], sort=False).head(most).index
                scores = scores.assign(**{metric: scores[metric].where(scores.index.isin(kept))})
        return scores


def counted(scores: pd.DataFrame, metric: str) -> np.ndarray:
    """Say which rows of Results.scores a set metric counts, bool [rows]: those that its column says. The store may hold
    features of more clips, from another metric or an earlier run. Without a column (a folder's videos, older runs) it
    counts all."""
    return scores[metric].to_numpy(bool) if metric in scores else np.ones(len(scores), bool)


def case_means(
    cases: Sequence[object] | np.ndarray, values: np.ndarray, baseline_values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cases, and the mean of each side's scores of each, all [cases]; input [clips], nan where a side has
    none.

    For scores of clips that a filter picks, anew for each variant and run: it may pick other seeds of a case on the
    other side, so what is paired is the case, by the mean of its picks.
    """
    import pandas as pd

    sides = pd.DataFrame({"values": values, "baseline": baseline_values})
    means = sides.groupby(np.asarray(cases, dtype=object), sort=False).mean()
    return means.index.to_numpy(), means["values"].to_numpy(), means["baseline"].to_numpy()
