"""Prompt files as rows: .txt, .csv and .jsonl as editors, spreadsheets and scripts write them."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stg_eval.types import StgEvalError

Row = tuple[int, dict[str, Any] | None]
"""Number of a line, counted from 1, and what it says; None for a blank line."""


def rows(path: Path) -> Iterator[Row]:
    """Return the file's lines, in order. Text is UTF-8, or UTF-16 with its mark.

    A .csv is divided by commas, semicolons or tabs, whichever its header is; names of columns may be capitalised.

    Raises StgEvalError with the line number for a file of another kind or encoding, and for lines that are not what the
    kind of file holds.
    """
    readers = {".txt": _lines, ".csv": _csv, ".jsonl": _jsonl}
    if path.suffix.lower() not in readers:
        raise StgEvalError(f"{path} is no prompt file; give {', '.join(readers)}")
    return readers[path.suffix.lower()](path, _decoded(path))


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StgEvalError(f"{path} cannot be read ({error.strerror})") from error
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StgEvalError(f"{path}, line {line}: no UTF-8 text ({error.reason}); save the file as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise StgEvalError(f"{path}, line {line}: a NUL character, as UTF-16 without its mark has; save it as UTF-8")
    if "\n" not in text and "\r" in text.rstrip():
        raise StgEvalError(f"{path}, line 1: lines end in carriage returns alone; save the file with newlines")
    return text


def _lines(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text), 1):  # splits at newlines only, not at U+2028, U+0085, form feeds
        yield number, {"prompt": line} if line.strip() else None


def _csv(path: Path, text: str) -> Iterator[Row]:
    for divider in ",;\t":
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=divider, strict=True)
        try:
            header = [name.strip().lower().replace(" ", "_") for name in next(reader, [])]
        except csv.Error as error:
            raise StgEvalError(f"{path}, line 1: {error}") from error
        if "prompt" in header:
            break
    else:
        raise StgEvalError(f"{path}, line 1: the header has no column 'prompt'; name the columns in the first line")
    try:
        twice = [name for name in header if header.count(name) > 1]
        if twice:
            raise StgEvalError(f"{path}, line 1: two columns {twice[0]!r}; remove or rename one of them")
        for row in reader:
            if not any(cell.strip() for cell in row):
                yield reader.line_num, None
                continue
            if len(row) != len(header):
                raise StgEvalError(f"{path}, line {reader.line_num}: another number of columns than the header")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise StgEvalError(f"{path}, line {reader.line_num}: {error}") from error


def _jsonl(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            yield number, None
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            raise StgEvalError(f"{path}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict):
            raise StgEvalError(f'{path}, line {number}: must be an object such as {{"prompt": "..."}}')
        yield number, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} twice")
        found[key] = value
    return found
