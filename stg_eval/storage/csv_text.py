"""CSV that reads back equal: every text is written as it is, quoted where a reader could take part of it for an end.

Nothing is changed for the sake of spreadsheets either: programs read the files back, so a cell such as ``=1+1`` stays
those four characters. Whoever opens one in a spreadsheet imports its columns as text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import BinaryIO
from urllib.parse import quote, unquote

import pandas as pd


class _Lines(io.TextIOBase):
    """Takes lines that end in CR LF, whose writer therefore quotes both; ends them in LF alone, as UTF-8."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write((line.removesuffix("\r\n") + "\n").encode())


def of_words(words: Iterable[str]) -> str:
    """Return several texts in one cell, spaces between them; a space inside one is written %20, as in an address."""
    return " ".join(re.sub(r"[\s%]", lambda found: quote(found[0]), word) for word in words)


def words(cell: str) -> list[str]:
    """What `of_words` was given."""
    return [unquote(word) for word in cell.split()]


def of_rows(rows: Iterable[Sequence[object]]) -> str:
    """Return one line a row; None is an empty cell."""
    data = io.BytesIO()
    csv.writer(_Lines(data), lineterminator="\r\n").writerows(rows)
    return data.getvalue().decode()


def of_frame(frame: pd.DataFrame) -> bytes:
    """Return the columns' names, then one line a row, without the index; nan and None are empty cells. UTF-8."""
    data = io.BytesIO()
    write_frame(frame, data)
    return data.getvalue()


def write_frame(frame: pd.DataFrame, file: BinaryIO) -> None:
    """Write what `of_frame` returns: a large run has tens of megabytes, which need not be in memory."""
    frame.to_csv(_Lines(file), index=False, lineterminator="\r\n", chunksize=1000)
