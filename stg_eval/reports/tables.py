"""Lays out a run's own tables: scores, and differences from the baseline."""

from __future__ import annotations

from collections import Counter

from stg_eval.reports.cells import best, difference_cell, head, value_cell
from stg_eval.reports.people import people_table
from stg_eval.reports.table import NONE, Cell, Row, Table
from stg_eval.reports.titles import missing, run_title
from stg_eval.storage.record import Variant
from stg_eval.storage.results import Column, Estimate, Results


def score_table(results: Results) -> Table:
    """Lay out the scores: one row a variant, values with their intervals, best marked, and n."""
    notes: list[str] = []
    columns = []
    for column in results.columns:
        estimates = [results.estimate(v, column.name) for v in results.variants]
        cells = []
        for estimate, is_best in zip(estimates, best(column, estimates), strict=True):
            cell = value_cell(column, estimate) if estimate else Cell()
            note = None
            if cell.text == NONE:
                if (problem := _problem(column, estimate)) not in notes:
                    notes.append(problem)
                note = 1 + notes.index(problem)
            cells.append(Cell(cell.text, cell.low, cell.high, best=is_best, note=note))
        columns.append(cells)
    return Table(
        name="scores",
        title=run_title(results),
        heads=_heads(results),
        columns=(*(head(c) for c in results.columns), "n"),
        rows=tuple(
            Row(_labels(results, variant), (*cells, Cell(_n(results, variant.name))))
            for variant, *cells in zip(results.run.variants, *columns, strict=True)
        ),
        notes=tuple(notes),
        remarks=(*_metrics(results), *missing(results)),
    )


def difference_table(results: Results) -> Table | None:
    """Lay out paired differences from the baseline, one row a variant; None where nothing is compared."""
    baseline = results.run.baseline
    others = [v for v in results.run.variants if v.name != baseline]
    compared = [e for e in results.estimates if e.baseline is not None]
    if not others or not compared:
        return None
    rows = []
    columns = [c for c in results.columns if not c.paired and c.kind != "missing"]  # what has a value on both sides
    for variant in others:
        estimates = [results.estimate(variant.name, c.name) for c in columns]
        cells = [difference_cell(c, e) if e else Cell() for c, e in zip(columns, estimates, strict=True)]
        rows.append(Row(_labels(results, variant), tuple(cells)))
    return Table(
        name="differences",
        title=f"Difference from {baseline}, paired by case and seed",
        heads=_heads(results),
        columns=tuple(head(c) for c in columns),
        rows=tuple(rows),
        remarks=(
            "✓ better, ✗ worse: the 95 % interval of the difference (or, where there is none, p below 0.05) says so. "
            "No mark: cannot tell at this n.",
        ),
    )


def run_tables(results: Results) -> list[Table]:
    """Lay out the tables of one run, in reading order."""
    return [table for table in (score_table(results), difference_table(results), people_table(results)) if table]


def _heads(results: Results) -> tuple[str, ...]:
    titled = any(variant.name != variant.signature for variant in results.run.variants)
    return ("Variant", "Guidance") if titled else ("Guidance",)


def _labels(results: Results, variant: Variant) -> tuple[str, ...]:
    return (variant.name, variant.signature)[-len(_heads(results)) :]


def _problem(column: Column, estimate: Estimate | None) -> str:
    if estimate is None:
        return f"{column.title}: " + ("the others are compared with this one." if column.paired else "not scored.")
    return f"{column.title}: {estimate.problem or 'no value (NaN)'}" + ("" if estimate.problem.endswith(".") else ".")


def _n(results: Results, variant: str) -> str:
    """Print the number of clips behind a row, exceptions by name: "192 (IS 190)"."""
    counts = {c.short: e.n for c in results.columns if (e := results.estimate(variant, c.name))}
    if not counts:
        return NONE
    usual = Counter(counts.values()).most_common(1)[0][0]
    others = [f"{short} {n}" for short, n in counts.items() if n != usual]
    return f"{usual}" + (f" ({', '.join(others)})" if others else "")


def _metrics(results: Results) -> list[str]:
    lines = []
    for c in results.columns:
        better = {True: "higher", False: "lower", None: "neither direction"}[c.higher_is_better]
        lines.append(f"{c.short}: {c.title}, {better} is better. {c.note}{' ' if c.note else ''}`{c.signature}`")
    return lines
