"""Writes tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re
import unicodedata

from stg_eval.reports.table import Cell, Table
from stg_eval.reports.writers.text import MARKS, interval, is_code, minus, spaced


def to_markdown(table: Table) -> str:
    """Write a GitHub-flavoured Markdown table with its notes."""

    def cell(c: Cell) -> str:
        text = f"**{minus(c.text)}**" if c.best else minus(c.text)
        note = f"({c.note})" if c.note else ""
        small = minus(interval(c)) if c.low else f"({c.after})" if c.after else ""
        return " ".join(part for part in (text + note, small, MARKS[c.mark]) if part)

    labels = [[_markdown_label(h, text) for h, text in zip(table.heads, row.labels, strict=True)] for row in table.rows]
    grid = [
        [*map(_markdown, table.heads), *map(_markdown, table.columns)],
        *([*label, *map(cell, row.cells)] for label, row in zip(labels, table.rows, strict=True)),
    ]
    widths = [max(3, *(_width(line[i]) for line in grid)) for i in range(len(grid[0]))]
    first = len(table.heads)

    def line(texts: list[str]) -> str:
        padded = (
            t + " " * (w - _width(t)) if i < first else " " * (w - _width(t)) + t
            for i, (t, w) in enumerate(zip(texts, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = [("-" * w if i < first else "-" * (w - 1) + ":") for i, w in enumerate(widths)]
    out = [f"**{_markdown(table.title)}**", "", line(grid[0]), line(rule), *map(line, grid[1:]), ""]
    out += [f"({i}) {_markdown(note)}  " for i, note in enumerate(table.notes, 1)]
    out += [f"{_markdown(remark)}  " for remark in table.remarks]
    return "\n".join(out) + "\n"


def width(table: Table) -> int:
    """Count the columns of a terminal that the Markdown table takes."""
    return max(_width(line) for line in to_markdown(table).splitlines() if line.startswith("|"))


def _markdown_label(name: str, text: str) -> str:
    return (
        f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
        if is_code(name)
        else _markdown(text)
    )


def _markdown(text: str) -> str:
    """Write plain text in Markdown on one line; `code` is left as it is."""
    return re.sub(
        r"(`[^`]*`)|([^`]+|`)",
        lambda m: spaced(m[1], str) if m[1] else spaced(m[2], lambda s: re.sub(r"([\\`*_|<\[\]])", r"\\\1", s)),
        text,
    )


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
