"""A leaderboard: what all runs of one suite reached, and who reliably beats whom."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stg_eval.reports.cells import head, value_cell
from stg_eval.reports.figures import guidance_of
from stg_eval.reports.table import Cell, Row, Table
from stg_eval.statistics.ranks import p_values_of_intervals, paired_p_values, rank_ranges, reliably_better
from stg_eval.statistics.sets import GROUPS
from stg_eval.storage.record import Variant
from stg_eval.storage.results import Column, Estimate, Results


@dataclass(frozen=True)
class Entry:
    """One row: a variant of a run."""

    place: int
    """Which run, counted from 0."""
    run: Results
    variant: Variant

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The variant's rows of Results.scores, by (case, seed, prompt)."""
        scores = self.run.scores
        named = scores[scores["variant"] == self.variant.name].astype({"case": str}).fillna({"prompt": ""})
        return named.set_index(["case", "seed", "prompt"])

    @property
    def series(self) -> Hashable:
        """What makes it the same thing measured again: model, guidance, and how clips are made and stored."""
        asked = self.run.run.request
        shape = asked and (asked.height, asked.width, asked.num_frames, asked.fps, asked.encoding)
        return self.run.run.model, self.variant.signature, shape

    @property
    def family(self) -> str:
        """The kind of guidance, as a filter has it."""
        guidance = guidance_of(self.variant)
        if guidance is None:
            return "videos"
        skips = dict.fromkeys(skip.method for skip in guidance.skips)
        return " + ".join(skips) or ("none" if guidance.cfg_scale == 1 else "cfg")

    def column(self, metric: str) -> Column | None:
        return next((c for c in self.run.columns if c.name == metric), None)

    def estimate(self, metric: str) -> Estimate | None:
        """The entry's value of a metric; None where it has none."""
        found = self.run.estimate(self.variant.name, metric)
        return found if found and math.isfinite(found.value) else None


class Standing(NamedTuple):
    """One metric of a board."""

    column: Column
    ways: tuple[int | None, ...]
    """Of each entry, in which way its value was computed (signature, and number of clips where that matters): 0 as most
    were; others are shown and not ranked. None without a value."""
    ranked: tuple[int, ...]
    """Of way 0 the last entry of each series: earlier ones are history, and must not cost the others confidence."""
    beaten: np.ndarray
    """Of those that are ranked, row i is reliably beaten by row j, bool [ranked, ranked]."""


@dataclass(frozen=True)
class Board:
    """All runs of one suite, in the order in which they were given."""

    suite: str
    title: str
    entries: tuple[Entry, ...]
    standings: tuple[Standing, ...]
    latest: tuple[int, ...]
    """The last entry of each series."""


def boards(runs: Sequence[Results]) -> list[Board]:
    """Return a board for each suite, the one with most runs first."""
    of_suites: dict[str, list[Entry]] = defaultdict(list)
    for place, run in enumerate(runs):
        of_suites[run.run.suite] += [Entry(place, run, variant) for variant in run.run.variants]
    made = []
    for suite, entries in sorted(of_suites.items(), key=lambda item: -len(item[1])):
        names = dict.fromkeys(c.name for entry in entries for c in entry.run.columns)
        latest = tuple(sorted({entry.series: i for i, entry in enumerate(entries)}.values()))
        standings = [standing for name in names if (standing := _standing(name, entries, latest))]
        made.append(Board(suite, entries[-1].run.run.title, tuple(entries), tuple(standings), latest))
    return made


def leaderboard(board: Board, name: str) -> Table:
    """Lay out the last entry of each series, best first by the first metric that has a better direction."""
    by = next((s for s in board.standings if s.column.higher_is_better is not None), None)
    rows = list(board.latest)
    ranges: dict[int, tuple[int, int]] = {}
    if by:
        sign = -1 if by.column.higher_is_better else 1
        values = {i: sign * _value(board.entries[i], by.column) for i in by.ranked}
        rows = sorted(by.ranked, key=values.__getitem__) + [i for i in rows if i not in values]
        ranges = dict(zip(by.ranked, rank_ranges(by.beaten), strict=True))
    lines, leader = list[Row](), rows[0]
    for i in rows:
        entry = board.entries[i]
        cells = []
        for standing in board.standings:
            found = entry.estimate(standing.column.name)
            cells.append(value_cell(standing.column, found) if found and standing.ways[i] == 0 else Cell())
        first = bool(by and i in ranges and by.beaten[by.ranked.index(i), by.ranked.index(leader)])
        leader = i if first else leader
        place = "–".join(str(x) for x in dict.fromkeys(ranges[i])) if i in ranges else "—"
        labels = (place, entry.run.run.model, entry.run.path.name, entry.variant.signature)
        lines.append(Row(labels, tuple(cells), "rule" if first else ""))
    told = []
    if by:
        told.append(
            f"Ordered by {by.column.title}. Rank: the places that a row may have, at 95 % confidence over the "
            "whole table (Holm over all pairs of rows, paired by case and seed where both have them). A line stands "
            "above the first row that the first row of its group reliably beats."
        )
    signed = [f"{s.column.short}: {s.column.title}. `{s.column.signature}`" for s in board.standings]
    return Table(
        name=name,
        title=f"{board.title}: the last run of each model and guidance, with 95 % intervals",
        heads=("Rank", "Model", "Run", "Guidance"),
        columns=tuple(head(s.column) for s in board.standings),
        rows=tuple(lines),
        remarks=(*told, *signed),
    )


def _standing(metric: str, entries: Sequence[Entry], latest: Sequence[int]) -> Standing | None:
    """None where nobody has a value."""
    keys = [_comparable_by(entry, metric) for entry in entries]
    counts = Counter(key for key in keys if key is not None)
    if not counts:
        return None
    numbers = {key: number for number, (key, _) in enumerate(counts.most_common())}
    ways = tuple(numbers.get(key) for key in keys)
    column = next(entry.column(metric) for entry, way in zip(entries, ways, strict=True) if way == 0)
    assert column
    ranked = tuple(i for i in latest if ways[i] == 0) if column.higher_is_better is not None else ()
    beaten = np.zeros((len(ranked), len(ranked)), bool)
    if column.higher_is_better is not None and len(ranked) > 1:
        found = [entries[i] for i in ranked]
        values = [_value(entry, column) for entry in found]
        beaten = reliably_better(values, _p_values(found, column), higher_is_better=column.higher_is_better)
    return Standing(column, ways, ranked, beaten)


def _comparable_by(entry: Entry, metric: str) -> Hashable:
    """Values with the same key may be compared; None where there is none."""
    column, estimate = entry.column(metric), entry.estimate(metric)
    if column is None or estimate is None:
        return None
    return column.unsized, estimate.n if column.kind == "set" else 0


def _p_values(entries: Sequence[Entry], column: Column) -> np.ndarray:
    """Of every pair: paired by clips where both have scores of the same ones, else by their intervals."""
    estimates = [entry.estimate(column.name) for entry in entries]
    degrees = GROUPS - 1
    if column.kind != "set":
        degrees = max(1, min(entry.scores.index.get_level_values("case").nunique() for entry in entries) - 1)
    values, low, high = ([getattr(e, name) for e in estimates] for name in ("value", "low", "high"))
    p_values = p_values_of_intervals(values, low, high, degrees)
    if column.kind != "clip":
        return p_values
    same: dict[tuple[str, tuple[Any, ...]], list[int]] = defaultdict(list)
    kept: list[pd.Series] = []
    for i, entry in enumerate(entries):
        scores = entry.scores[column.name].dropna()
        kept.append(scores)
        if column.name not in entry.run.run.keep_static:  # a filter picks clips anew for each variant
            same[entry.run.run.cluster, tuple(scores.index)].append(i)
    for (cluster, clips), members in same.items():
        if len(members) > 1:
            clusters = [clip[0] if cluster == "case" else clip[:2] for clip in clips]
            together = np.stack([kept[i].to_numpy(float) for i in members], axis=1)
            p_values[np.ix_(members, members)] = paired_p_values(together, clusters)
    return p_values


def _value(entry: Entry, column: Column) -> float:
    found = entry.estimate(column.name)
    return found.value if found else math.nan
