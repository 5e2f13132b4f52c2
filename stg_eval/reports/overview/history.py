"""Histories: one model under one guidance, run after run, and where a score changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy  # brings in scipy.stats, which is slow to import, when it is first used

from stg_eval.reports.overview.board import Board, Entry
from stg_eval.statistics.changes import Change, Contrasting, by_intervals, changes, paired
from stg_eval.statistics.sets import GROUPS
from stg_eval.storage.record import RunRecord
from stg_eval.storage.results import Column

Margin = Callable[[str, float], float]
"""Metric and its value before -> the smallest difference that matters, in the metric's unit."""


class History(NamedTuple):
    """One metric of one series."""

    column: Column
    rows: tuple[int, ...]
    """Entries of the board, in the order of their runs."""
    changes: tuple[Change, ...]
    """Their numbers count `rows`."""


def histories(board: Board, margin: Margin) -> Iterator[History]:
    """Yield a history for each series of two runs or more and each metric."""
    of_series: dict[Hashable, list[int]] = defaultdict(list)
    for i, entry in enumerate(board.entries):
        of_series[entry.series].append(i)
    of_series = {key: rows for key, rows in of_series.items() if len(rows) > 1}
    watched: dict[Hashable, int] = defaultdict(int)  # histories of the same runs
    found = []
    for rows in of_series.values():
        for standing in board.standings:
            kept = tuple(i for i in rows if standing.ways[i] == 0)
            if len(kept) > 1:
                runs = tuple(board.entries[i].place for i in rows)
                watched[runs] += 1
                found.append((runs, standing.column, kept))
    for runs, column, kept in found:
        entries = [board.entries[i] for i in kept]

        def limit(before: float, metric: str = column.name) -> float:
            return margin(metric, before)

        made = changes(_contrasting(entries, column), len(kept), limit, histories=watched[runs])
        yield History(column, kept, tuple(made))


def told_apart(before: RunRecord, after: RunRecord) -> list[str]:
    """Say what else differs between two runs of a series: versions, machine, weights, steps, settings."""

    def described(run: RunRecord) -> dict[str, object]:
        out: dict[str, object] = {"weights": run.weights, "settings": dict(run.settings)}
        if run.request:
            out |= {"steps": run.request.num_inference_steps, "dtype": run.request.dtype}
        out |= run.provenance.model_dump(exclude={"packages"}, exclude_none=True)
        return out | dict(run.provenance.packages)

    old, new = described(before), described(after)
    names = {"git_commit": "commit", "stg_eval": "stg-eval"}
    return [
        f"{names.get(key, key)} {old.get(key)} → {new.get(key)}"
        for key in dict.fromkeys((*old, *new))
        if old.get(key) != new.get(key)
    ]


def _contrasting(entries: Sequence[Entry], column: Column) -> Contrasting:
    """Pair runs by their cases where single clips have scores, else compare the values by their intervals."""
    if column.kind == "clip":
        levels = ["case"] if entries[0].run.run.cluster == "case" else ["case", "seed"]
        of_runs = [entry.scores[column.name].dropna().groupby(level=levels).mean() for entry in entries]
        scores = pd.concat(of_runs, axis=1, keys=range(len(of_runs)))
        if (scores.notna().all(axis=1)).sum() > 1:
            return paired(scores.to_numpy(float))
    degrees = GROUPS - 1
    found = [entry.estimate(column.name) for entry in entries]
    values, low, high = (np.array([getattr(e, name) for e in found]) for name in ("value", "low", "high"))
    return by_intervals(values, (high - low) / 2 / float(scipy.stats.t.ppf(0.975, degrees)), degrees)
