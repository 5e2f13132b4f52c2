"""Defines a table as laid out: text in cells, whichever way it is written afterwards (`stg_eval.reports.writers`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

NONE = "—"


@dataclass(frozen=True)
class Cell:
    """One value as printed, in plain ASCII digits and hyphens; the writers set typographic signs."""

    text: str = NONE
    low: str = ""
    high: str = ""
    best: bool = False
    mark: str = ""
    """"better" or "worse" where an interval (or test) says so, else empty."""
    after: str = ""
    """What stands in for an interval, e.g. "p = 0.012"."""
    note: int | None = None
    """Number of a note of the table, counted from 1."""


@dataclass(frozen=True)
class Row:
    """One line of a table: its labels, then a cell for each column."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    above: Literal["", "space", "rule"] = ""
    """What sets it off from the row before."""


@dataclass(frozen=True)
class Table:
    """A title, heads, rows, and what a reader must know to read them."""

    name: str
    """Stem of the files it is written to."""
    title: str
    heads: tuple[str, ...]
    """Heads of the label columns; the last labels of a row that are signatures are printed as code."""
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """Numbered notes; cells refer to them."""
    remarks: tuple[str, ...] = ()
    """What else a reader must know: metrics, signatures, and what is missing."""

    def first(self, n: int) -> Table:
        """Return the first `n` columns, with a remark that names the others."""
        rows = tuple(replace(row, cells=row.cells[:n]) for row in self.rows)
        others = f"Not shown: {', '.join(self.columns[n:])}."
        return replace(self, columns=self.columns[:n], rows=rows, remarks=(*self.remarks, others))


def turned(table: Table) -> Table:
    """Turn a table: a row for each column and a column for each row."""
    names = [
        [f"`{text}`" if h == "Guidance" else text for h, text in zip(table.heads, row.labels, strict=True)]
        for row in table.rows
    ]
    return replace(
        table,
        heads=("",),
        columns=tuple(" ".join(dict.fromkeys(labels)) for labels in names),
        rows=tuple(Row((name,), tuple(row.cells[i] for row in table.rows)) for i, name in enumerate(table.columns)),
    )
