"""Holds what every writer needs: intervals, signs, and which labels are code."""

from __future__ import annotations

import re

from stg_eval.reports.table import Cell

MARKS = {"better": "✓", "worse": "✗", "": ""}


def interval(c: Cell) -> str:
    """ "[low, high]", or what stands in for it."""
    return f"[{c.low}, {c.high}]" if c.low else c.after


def is_code(label_head: str) -> bool:
    """Tell whether labels under this head are signatures, which are printed in a fixed-width face."""
    return label_head == "Guidance"


def minus(text: str) -> str:
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def spaced(text: str, change: object) -> str:
    """Apply `change` to the text with runs of white space made one blank, blanks at the ends kept."""
    assert callable(change)
    inner = re.sub(r"\s+", " ", text)
    left, right = inner[: len(inner) - len(inner.lstrip())], inner[len(inner.rstrip()) :]
    return left + str(change(inner.strip())) + (right if inner.strip() else "")
