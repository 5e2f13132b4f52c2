"""What a page of several models opens with: one sentence and one picture of what a guidance did to each."""

from __future__ import annotations

from collections.abc import Sequence

from stg_eval.reports.cells import difference_cell, head
from stg_eval.reports.table import Cell, Row, Table
from stg_eval.reports.writers.text import interval, minus
from stg_eval.storage.results import Column, Results

SHOWN = 2
"""Metrics that are shown: the suite's first, and one to hold it against."""


def seen(results: Sequence[Results]) -> tuple[str, Table] | None:
    """Return the sentence and the picture, a table to be drawn with whiskers; None unless each of several runs compares
    the same one variant with the same baseline, in a metric that has an interval in all."""
    asked = {(run.run.baseline, *(v for v in run.variants if v != run.run.baseline)) for run in results}
    if len(results) < 2 or len(asked) > 1 or len(names := next(iter(asked))) != 2:
        return None
    baseline, variant = names
    columns, rows = list[Column](), [list[Cell]() for _ in results]
    for column in results[0].columns:
        cells = [_difference(run, str(variant), column) for run in results]
        if all(cell.low for cell in cells) and len(columns) < SHOWN:
            columns.append(column)
            for row, cell in zip(rows, cells, strict=True):
                row.append(cell)
    if not columns:
        return None
    models = [run.run.model_title or run.run.model for run in results]
    said = [
        f"on {model}: {', '.join(_said(*at) for at in zip(columns, row, strict=True))}"
        for model, row in zip(models, rows, strict=True)
    ]
    table = Table(
        name="seen",
        title=f"{variant} − {baseline}, paired, with 95 % intervals",
        heads=("Model",),
        columns=tuple(head(column) for column in columns),
        rows=tuple(Row((model,), tuple(row)) for model, row in zip(models, rows, strict=True)),
    )
    return f"{variant} against {baseline}, {'; '.join(said)}.", table


def _difference(run: Results, variant: str, column: Column) -> Cell:
    estimate = run.estimate(variant, column.name)
    return difference_cell(column, estimate) if estimate else Cell()


def _said(column: Column, cell: Cell) -> str:
    return f"{column.title} {minus(f'{cell.text} {interval(cell)}')} ({cell.mark or 'cannot tell'})"
