"""Chooses the (case, seed) pairs of a run, in an order of which every prefix is a fair part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from stg_eval.datasets.dataset import Dataset
from stg_eval.suites.suite import MOST_CLIPS, MOST_SAMPLES, Suite
from stg_eval.types import Case, StgEvalError


def samples(
    suite: Suite,
    dataset: Dataset,
    limit: int | None = None,
    fraction: float | None = None,
    seeds: int | None = None,
    dry: bool = False,
) -> Iterator[tuple[Case, int]]:
    """Yield every (case, seed) of the run, ordered so that any prefix is a stratified, deterministic part of the full
    run and a limited run grows later without waste.

    A case with n samples has its k-th at position (k + u) / n of the run, where u in (0, 1) grows along the dataset's
    own (stratified) order. `limit` is a number of clips, `fraction` a share of the full run (at least one clip),
    `seeds` a number of samples a case that replaces the suite's. Lazy: with one count for all cases, N clips read N
    cases at most. `dry` is for plans: data that is not there yet is counted by stand-ins, nothing is prepared.

    Raises StgEvalError for a dataset that ends before `suite.clips`.
    """
    if limit is not None and limit < 1:
        raise StgEvalError(f"--limit must be at least 1, not {limit}")
    if fraction is not None and not 0 < fraction <= 1:
        raise StgEvalError(f"--fraction must be above 0 and at most 1, not {fraction:g}")
    if seeds is not None and not 1 <= seeds <= MOST_SAMPLES:
        raise StgEvalError(f"--seeds must lie between 1 and {MOST_SAMPLES:,}, not {seeds:,}")
    if dry and dataset.missing and suite.clips is not None:
        dataset = _StandIn(suite, dataset.missing)
        suite = replace(suite, samples={"default": suite.samples["default"]})
    total = suite.clips if seeds is None else None
    wanted = total
    if fraction is not None:
        total = sum(1 for _ in _ordered(suite, dataset, seeds, dry)) if total is None else total
        wanted = max(1, round(fraction * total))
    if limit is not None:
        wanted = limit if wanted is None else min(limit, wanted)
    made = 0
    for pair in _ordered(suite, dataset, seeds, dry):
        yield pair
        made += 1
        if made == wanted:
            return
        if made == MOST_CLIPS:
            raise StgEvalError(f"suite {suite.name} makes more than {MOST_CLIPS:,} clips a variant; choose a --limit")
    if wanted is not None and total is not None:
        raise StgEvalError(
            f"suite {suite.name} needs {wanted:,} clips a variant and its dataset gives only {made:,}; "
            "complete the data, or make fewer with --limit or --fraction"
        )


def _ordered(suite: Suite, dataset: Dataset, seeds: int | None, dry: bool) -> Iterator[tuple[Case, int]]:
    counts = {"default": seeds} if seeds is not None else suite.samples
    if len(counts) == 1:
        yield from _rounds(dataset.cases(dry), counts["default"], suite.seed)
        return
    groups: dict[int, list[Case]] = {}
    for case in dataset.cases(dry):
        tagged = [counts[tag] for tag in case.tags if tag in counts]
        groups.setdefault(max(tagged, default=counts["default"]), []).append(case)
    placed = [
        ((k + (rank + 0.5) / len(cases)) / n, n, k, rank)
        for n, cases in groups.items()
        for k in range(n)
        for rank in range(len(cases))
    ]
    for _, n, k, rank in sorted(placed):
        yield groups[n][rank], suite.seed + k


def _rounds(cases: Iterator[Case], n: int, seed: int) -> Iterator[tuple[Case, int]]:
    seen = []
    for case in cases:
        yield case, seed
        if n > 1:
            seen.append(case)
    for k in range(1, n):
        yield from ((case, seed + k) for case in seen)


class _StandIn:
    """Stands in for data that is not there: as many cases as the suite's clips need, to be counted, never shown."""

    def __init__(self, suite: Suite, missing: str) -> None:
        self._suite = suite
        self.missing: str | None = missing

    def cases(self, dry: bool = False) -> Iterator[Case]:
        for i in range((self._suite.clips or 0) // self._suite.samples["default"]):
            what = f"not there yet: {self._suite.dataset}, case {i + 1}"
            yield Case(id=what, prompt=what, image=what, image_sha256=what, label=0, tags=self._suite.metrics)

    def reference(self) -> None:
        return None
