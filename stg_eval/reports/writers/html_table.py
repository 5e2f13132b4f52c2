"""Writes tables as HTML; the style comes with the page."""

from __future__ import annotations

import re
from html import escape

from stg_eval.reports.table import Cell, Table
from stg_eval.reports.writers.text import MARKS, interval, is_code, minus


def to_html(table: Table, *, whiskers: bool = False) -> str:
    """Write a <figure class="table"> with caption, notes and remarks; style comes with the page. With `whiskers`,
    intervals are drawn too, each column on one scale around zero."""
    reach = [max((_reach(row.cells[i]) for row in table.rows), default=0.0) for i in range(len(table.columns))]

    def cell(c: Cell, reach: float) -> str:
        text = escape(minus(c.text))
        if c.best:
            text = f"<strong>{text}</strong>"
        if c.note:
            text += f"<sup>{c.note}</sup>"
        if c.mark:
            text += f'<span class="{c.mark}" title="{c.mark}">{MARKS[c.mark]}</span>'
        small = f"<small>{escape(minus(interval(c)))}</small>" if interval(c) else ""
        return f"<td>{text}{small}{_whisker(c, reach) if whiskers else ''}</td>"

    def label(labels: tuple[str, ...]) -> str:
        cells = [
            f"<code>{escape(text)}</code>" if is_code(h) else escape(text)
            for h, text in zip(heads, labels, strict=True)
        ]
        if folded:
            cells = [f"{cells[0]}<small>{cells[1]}</small>"]
        return "".join(f'<th scope="row" class="label">{text}</th>' for text in cells)

    heads = table.heads
    folded = len(heads) == 2 and is_code(heads[1])  # the signature stands below its title
    top = "".join(f'<th scope="col" class="label">{escape(h)}</th>' for h in (heads[:1] if folded else heads))
    top += "".join(f'<th scope="col">{escape(c)}</th>' for c in table.columns)
    rows = []
    for row in table.rows:
        above = f' class="{row.above}"' if row.above else ""
        rows.append(f"<tr{above}>{label(row.labels)}{''.join(map(cell, row.cells, reach))}</tr>")
    notes = "".join(f"<li value={i}>{prose_html(note)}</li>" for i, note in enumerate(table.notes, 1))
    remarks = "".join(f"<p>{prose_html(remark)}</p>" for remark in table.remarks)
    return (
        f'<figure class="table{" whiskers" if whiskers else ""}">\n<figcaption>{escape(table.title)}</figcaption>\n'
        f'<div class="scroll"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + f"\n</tbody></table></div>\n{f'<ol>{notes}</ol>' if notes else ''}{remarks}\n</figure>\n"
    )


def _reach(c: Cell) -> float:
    return max(abs(float(c.low)), abs(float(c.high))) if c.low else 0.0


def _whisker(c: Cell, reach: float) -> str:
    """Draw the interval around zero, from the printed digits."""
    if not c.low or not reach:
        return ""
    low, middle, high = (round(50 + 48 * float(text) / reach, 1) for text in (c.low, c.text, c.high))
    return (
        f'<svg class="whisker {c.mark}" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="zero" d="M50 0v10" vector-effect="non-scaling-stroke"/>'
        f'<path class="range" d="M{low} 5H{high}" vector-effect="non-scaling-stroke"/>'
        f'<path class="value" d="M{middle} 1.5v7" vector-effect="non-scaling-stroke"/></svg>'
    )


def prose_html(text: str) -> str:
    """Write plain text with `code` as HTML."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))
