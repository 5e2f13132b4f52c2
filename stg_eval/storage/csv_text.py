"""CSV that reads back equal: every text is written as it is, quoted where a reader could take part of it for an end.

Nothing is changed for the sake of spreadsheets either: programs read the files back, so a cell such as ``=1+1`` stays
those four characters. Whoever opens one in a spreadsheet imports its columns as text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote, unquote

import pandas as pd


class _Lines(io.StringIO):
    """Takes lines that end in CR LF, whose writer therefore quotes both; ends them in LF alone."""

    def write(self, line: str) -> int:
        return super().write(line.removesuffix("\r\n") + "\n")


def of_words(words: Iterable[str]) -> str:
    """Return several texts in one cell, spaces between them; a space inside one is written %20, as in an address."""
    return " ".join(re.sub(r"[\s%]", lambda found: quote(found[0]), word) for word in words)


def words(cell: str) -> list[str]:
    """What `of_words` was given."""
    return [unquote(word) for word in cell.split()]


def of_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return one line a row; None is an empty cell."""
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    return lines.getvalue()


def of_frame(frame: pd.DataFrame) -> str:
    """Return the columns' names, then one line a row, without the index; nan and None are empty cells."""
    lines = _Lines()
    frame.to_csv(lines, index=False, lineterminator="\r\n")
    return lines.getvalue()
