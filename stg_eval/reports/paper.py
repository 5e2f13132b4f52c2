"""Lays out the paper's tables with our numbers in them: published, ours, difference, and a verdict on each claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from stg_eval.reports.cells import best, difference_cell, number, value_cell
from stg_eval.reports.table import Cell, Row, Table
from stg_eval.reports.titles import missing, run_title
from stg_eval.storage.results import Column, Estimate, Results
from stg_eval.types import Guidance, StgEvalError

REPRODUCED, NOT_REPRODUCED, CANNOT_TELL = "reproduced", "not reproduced", "cannot tell"


@cache
def paper() -> dict[str, Any]:
    """Read paper.yaml: what was published, with the settings."""
    return yaml.safe_load(files(__package__).joinpath("paper.yaml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def verdict(column: Column, claimed: float, ours: Estimate) -> str:
    """Say whether our paired difference bears out the published one, `claimed` (scaled, as printed).

    - reproduced: our 95 % interval lies wholly on the claim's side of zero;
    - not reproduced: it lies wholly on the other side, or it holds zero but not the claimed difference;
    - cannot tell: it holds zero and the claimed difference alike. Without an interval, p < 0.05 decides.
    """
    low, high = ours.difference_low * column.scale, ours.difference_high * column.scale
    if not math.isfinite(ours.difference):
        return CANNOT_TELL
    if not (math.isfinite(low) and math.isfinite(high)):
        if not ours.p_value < 0.05:
            return CANNOT_TELL
        return REPRODUCED if ours.difference * claimed > 0 else NOT_REPRODUCED
    if low > 0 or high < 0:
        return REPRODUCED if ours.difference * claimed > 0 else NOT_REPRODUCED
    return CANNOT_TELL if low <= claimed <= high else NOT_REPRODUCED


def paper_tables(results: Sequence[Results], *, numbers: Iterable[int] | None = None) -> list[Table]:
    """Lay out those of Tables 1-5 of which a run has a row; or the tables asked for by number, whatever was run."""
    chosen = paper()["tables"] if numbers is None else {n: paper()["tables"][n] for n in numbers}
    return [
        _table(n, layout, results)
        for n, layout in chosen.items()
        if numbers is not None or any(_find(results, row) for row in layout["rows"])
    ]


@dataclass(frozen=True)
class _Ours:
    """A row of the paper, found in a run."""

    results: Results
    variant: str

    def get(self, metric: str) -> tuple[Column, Estimate] | None:
        column = next((c for c in self.results.columns if c.name == metric), None)
        estimate = self.results.estimate(self.variant, metric)
        return (column, estimate) if column and estimate else None


def _is_random(results: Results) -> bool:
    return results.run.weights.startswith("random")


def _find(
    results: Sequence[Results],
    row: dict[str, Any],
    against: dict[str, Any] | None = None,
    metric: str | None = None,
) -> _Ours | None:
    """Find the run that holds this row (and metric: a row's metrics may come from several suites); one whose baseline
    is the row it is compared with, if there is a choice."""
    found = [
        _Ours(one, variant.name)
        for one in results
        if one.run.model == row["model"] and (metric is None or any(c.name == metric for c in one.columns))
        for variant in one.run.variants
        if _same(variant.signature, row["guidance"])
    ]
    return next((f for f in found if against and _compared_with(f, against)), found[0] if found else None)


def _compared_with(ours: _Ours, against: dict[str, Any]) -> bool:
    run = ours.results.run
    return run.baseline is not None and _same(run.variant(run.baseline).signature, against["guidance"])


def _same(signature: str, guidance: str) -> bool:
    try:
        return Guidance.parse(signature) == Guidance.parse(guidance)
    except StgEvalError:
        return False


def _table(n: int, layout: dict[str, Any], results: Sequence[Results]) -> Table:
    metrics: list[str] = layout["metrics"]
    rows: list[Row] = []
    notes: list[str] = []
    used: dict[str, Results] = {}
    for row in layout["rows"]:
        group = [r for r in layout["rows"] if r["model"] == row["model"]]
        against = next((r for r in group if r["method"] == row.get("against")), None)
        ours = _find(results, row, against)
        for one in (ours, *(_find(results, row, against, metric) for metric in metrics)):
            if one:
                used[str(one.results.path)] = one.results
        lines = _lines(metrics, row, group, against, ours, results, notes)
        model = "" if row is not group[0] else paper()["models"][row["model"]]
        for i, (label, cells) in enumerate(lines):
            names = (model, row["method"], label) if i == 0 else ("", "", label)
            rows.append(Row(names, cells, above="" if i else "rule" if model else "space"))
    remarks = [f"Published: {layout['protocol']}"]
    if "note" in layout:
        remarks.append(layout["note"])
    for run in used.values():
        remarks.append(f"Ours: {run_title(run)}{_clips(run)}; weights `{run.run.weights}`.")
        remarks += missing(run)
    if not used:
        remarks.append("Ours: no run of these models was given.")
    if any(_is_random(run) for run in used.values()):
        remarks.append("Random weights: these clips say nothing of the paper's claims.")
    if not all(_is_random(run) for run in used.values()) and any(r.get("against") for r in layout["rows"]):
        remarks.append(
            "Reproduced: the interval of our paired difference lies on the published side of zero. Not reproduced: "
            "it lies on the other side, or holds zero and not the published difference. Cannot tell: it holds both."
        )
    return Table(
        name=f"table-{n}",
        title=f"{layout['title']} (Table {n} of the paper)",
        heads=("Model", "Method", ""),
        columns=tuple(_head(metric) for metric in metrics),
        rows=tuple(rows),
        notes=tuple(notes),
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _clips(results: Results) -> str:
    """Print how many clips a row was to have: ours are comparable with the published ones at their number only."""
    n = results.run.expected // len(results.variants)
    return f", {n:,} clip{'' if n == 1 else 's'} a row" if n else ""


def _lines(
    metrics: list[str],
    row: dict[str, Any],
    group: list[dict[str, Any]],
    against: dict[str, Any] | None,
    ours: _Ours | None,
    results: Sequence[Results],
    notes: list[str],
) -> list[tuple[str, tuple[Cell, ...]]]:
    """Lay out the lines of one row of the paper: published, ours; for a compared row the differences and the verdict
    too."""
    published = dict(zip(metrics, row["published"], strict=True))
    base = dict(zip(metrics, against["published"], strict=True)) if against else {}
    columns: dict[str, list[Cell]] = {}

    def line(name: str, cell: Cell) -> None:
        columns.setdefault(name, []).append(cell)

    for metric in metrics:
        mine = _find(results, row, against, metric) or ours
        peers = [_find(results, r, metric=metric) for r in group]
        found = mine.get(metric) if mine else None
        value = published[metric]
        known = [v for r in group if (v := r["published"][metrics.index(metric)]) is not None]
        digits = max((len(str(v).partition(".")[2]) for v in known), default=0)
        line("published", _published(metric, value, known, digits))
        line("ours", _our_value(metric, mine, found, peers, notes))
        if ours:
            line("ours − published", _gap(found, value))
        claimed = None
        if against:
            claimed = None if value is None else round(value - base[metric], 6)
            line(f"minus {against['method']}, published", Cell(_signed(claimed, digits)))
        if against and mine:
            compared = found if _compared_with(mine, against) else None
            line(f"minus {against['method']}, ours", difference_cell(*compared) if compared else Cell())
            line("verdict", _verdict(claimed, mine, compared))
    return [(name, tuple(cells)) for name, cells in columns.items()]


def _published(metric: str, value: float | None, known: list[float], digits: int) -> Cell:
    if value is None:
        return Cell()
    top = max(known) if paper()["metrics"][metric]["higher_is_better"] else min(known)
    return Cell(f"{value:.{digits}f}", best=len(known) > 1 and value == top)


def _our_value(
    metric: str,
    ours: _Ours | None,
    found: tuple[Column, Estimate] | None,
    peers: list[_Ours | None],
    notes: list[str],
) -> Cell:
    if not ours:
        return Cell("not run")
    if not found:
        return Cell()
    column, estimate = found
    cell = value_cell(column, estimate)
    if math.isnan(estimate.value):
        problem = f"{column.title}: {estimate.problem or 'no value (NaN)'}."
        if problem not in notes:
            notes.append(problem)
        return Cell(note=notes.index(problem) + 1)
    all_ours = [e[1] if p and (e := p.get(metric)) else None for p in peers]
    mine = best(column, [estimate, *[e for e in all_ours if e is not estimate]])[0]
    return Cell(cell.text, cell.low, cell.high, best=mine)


def _gap(found: tuple[Column, Estimate] | None, published: float | None) -> Cell:
    if not found or published is None or not math.isfinite(found[1].value):
        return Cell()
    column, estimate = found
    return Cell(number(column, estimate.value - published / column.scale, signed=True))


def _verdict(claimed: float | None, ours: _Ours, compared: tuple[Column, Estimate] | None) -> Cell:
    if claimed is None:
        return Cell()
    if claimed == 0:
        return Cell("no claim")
    if _is_random(ours.results):
        return Cell("random weights")
    if not compared:
        return Cell("not compared")
    told = verdict(compared[0], claimed, compared[1])
    return Cell(told, after=f"n = {compared[1].n}" if told == CANNOT_TELL else "")


def _signed(value: float | None, digits: int) -> str:
    return Cell().text if value is None else f"{value:+.{digits}f}" if value else f"{0:.{digits}f}"


def _head(metric: str) -> str:
    known = paper()["metrics"][metric]
    return f"{known['short']} {'↑' if known['higher_is_better'] else '↓'}"
