"""Scores as printed: every digit is made here, so tables, the page and figures show a score with the same text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stg_eval.reports.table import NONE, Cell
from stg_eval.storage.results import Column, Estimate


def number(column: Column, value: float, *, signed: bool = False) -> str:
    """Print a score: scaled, with the column's digits; "—" for nan."""
    if not math.isfinite(value):
        return NONE
    text = f"{value * column.scale:.{column.digits}f}"
    if float(text) == 0:
        return text.lstrip("-")
    return f"+{text}" if signed and value > 0 else text


def head(column: Column) -> str:
    """Print the head of a column: its short name and an arrow for the direction that is better."""
    arrow = {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]
    return column.short + arrow


def mark(column: Column, estimate: Estimate) -> str:
    """Say "better" or "worse" than the baseline where the 95 % interval of the difference (without one, p < 0.05) does;
    empty where this n cannot tell."""
    if not math.isfinite(estimate.difference) or estimate.difference == 0 or column.higher_is_better is None:
        return ""
    if math.isfinite(estimate.difference_low) and math.isfinite(estimate.difference_high):
        told = estimate.difference_low > 0 or estimate.difference_high < 0
    else:
        told = estimate.p_value < 0.05
    if not told:
        return ""
    return "better" if (estimate.difference > 0) == column.higher_is_better else "worse"


def value_cell(column: Column, estimate: Estimate) -> Cell:
    """Make the cell of a value with its interval."""
    interval = math.isfinite(estimate.low) and math.isfinite(estimate.high) and math.isfinite(estimate.value)
    return Cell(
        number(column, estimate.value),
        number(column, estimate.low) if interval else "",
        number(column, estimate.high) if interval else "",
    )


def difference_cell(column: Column, estimate: Estimate) -> Cell:
    """Make the cell of a paired difference with its interval, or with its p-value where there is none."""
    if not math.isfinite(estimate.difference):
        return Cell()
    interval = math.isfinite(estimate.difference_low) and math.isfinite(estimate.difference_high)
    return Cell(
        number(column, estimate.difference, signed=True),
        number(column, estimate.difference_low, signed=True) if interval else "",
        number(column, estimate.difference_high, signed=True) if interval else "",
        mark=mark(column, estimate),
        after=f"p = {estimate.p_value:.2g}" if not interval and math.isfinite(estimate.p_value) else "",
    )


def best(column: Column, estimates: Sequence[Estimate | None]) -> list[bool]:
    """Mark which of a column's estimates are best, to the printed digit; none where fewer than two have a value."""
    printed = [math.nan if e is None or math.isnan(e.value) else float(number(column, e.value)) for e in estimates]
    known = [p for p in printed if not math.isnan(p)]
    if len(known) < 2 or column.higher_is_better is None:
        return [False] * len(printed)
    top = max(known) if column.higher_is_better else min(known)
    return [p == top for p in printed]
