"""Writes tables as comma-separated values."""

from __future__ import annotations

from stg_eval.reports.table import NONE, Table
from stg_eval.storage import csv_text


def to_csv(table: Table) -> str:
    """Write comma-separated values: the printed digits, each interval in two columns of its own."""
    with_interval = [any(row.cells[i].low for row in table.rows) for i in range(len(table.columns))]
    heads = list(table.heads)
    for name, wide in zip(table.columns, with_interval, strict=True):
        short = name.rstrip(" ↑↓")
        heads += [short, f"{short} low", f"{short} high"] if wide else [short]
    lines: list[list[str]] = [heads]
    for row in table.rows:
        line = list(row.labels)
        for c, wide in zip(row.cells, with_interval, strict=True):
            text = "" if c.text == NONE else c.text
            line += [text, c.low, c.high] if wide else [text]
        lines.append(line)
    return csv_text.of_rows(lines)
