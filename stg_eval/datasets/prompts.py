"""A prompt file of one's own: .txt (a prompt a line), .csv (with a header) or .jsonl (an object a line)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_eval.datasets.dataset import stratified
from stg_eval.datasets.files import check_options
from stg_eval.types import Case, StgEvalError

FIELDS = ("prompt", "id", "negative_prompt", "tags")
"""Columns of a .csv, keys of a .jsonl; only `prompt` is needed. Tags are a list, in a .csv divided by semicolons."""


class Prompts:
    """Cases in the order of the file, interleaved by tags where there are any. Ids default to line numbers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.missing = (
            None if path.is_file() else "give a prompt file (or a folder of images), e.g. --suite prompts.txt"
        )

    def cases(self, dry: bool = False) -> Iterator[Case]:
        if self.missing:
            raise StgEvalError(self.missing)
        yield from stratified(read(self._path), lambda case: case.tags)

    def reference(self) -> None:
        return None


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> Prompts:
    """Options: path."""
    check_options(name, options, ("path",))
    return Prompts(Path(str(options.get("path") or "")).expanduser())


def read(path: Path) -> list[Case]:
    """The file's cases.

    Raises StgEvalError with the line number for an empty or repeated prompt or id, a value of another type, a line that
    is no JSON object and an unknown column; also for a file of another kind or encoding, or without prompts.
    """
    readers = {".txt": _lines, ".csv": _csv, ".jsonl": _jsonl}
    if path.suffix.lower() not in readers:
        raise StgEvalError(f"{path} is no prompt file; give {', '.join(readers)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StgEvalError(f"{path} cannot be read as UTF-8 text ({error})") from error
    cases: list[Case] = []
    first: dict[tuple[str, ...], int] = {}
    for line, row in readers[path.suffix.lower()](path, text):
        unknown = [key for key in row if key not in FIELDS]
        if unknown:
            raise StgEvalError(f"{path}, line {line}: unknown field {unknown[0]!r} (known: {', '.join(FIELDS)})")
        prompt = _text(path, line, "prompt", row.get("prompt"))
        if not prompt:
            raise StgEvalError(f"{path}, line {line}: empty prompt; remove the line")
        negative = _text(path, line, "negative_prompt", row.get("negative_prompt"))
        number = row.get("id")
        case = Case(
            id=str(number) if type(number) is int else _text(path, line, "id", number) or f"{line:04d}",
            prompt=prompt,
            negative_prompt=negative,
            tags=_tags(path, line, row.get("tags")),
        )
        for what, key in (("prompt", ("prompt", prompt, negative)), ("id", ("id", case.id))):
            if key in first:
                raise StgEvalError(f"{path}, line {line}: same {what} as line {first[key]}; remove one of them")
            first[key] = line
        cases.append(case)
    if not cases:
        raise StgEvalError(f"{path} holds no prompts")
    return cases


def _text(path: Path, line: int, field: str, value: Any) -> str:
    if not isinstance(value, str | None):
        raise StgEvalError(f"{path}, line {line}: {field} must be text, not {json.dumps(value)[:100]}")
    return (value or "").strip()


def _tags(path: Path, line: int, value: Any) -> tuple[str, ...]:
    tags = value.split(";") if isinstance(value, str) else [] if value is None else value
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise StgEvalError(f"{path}, line {line}: tags must be a list of texts")
    return tuple(tag.strip() for tag in tags if tag.strip())


def _lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(text), 1):  # splits at newlines only, not at U+2028, U+0085, form feeds
        yield number, {"prompt": line}


def _csv(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if "prompt" not in header:
            raise StgEvalError(f"{path}, line 1: the header has no column 'prompt' (columns: {', '.join(FIELDS)})")
        for row in reader:
            if row and len(row) != len(header):
                raise StgEvalError(f"{path}, line {reader.line_num}: another number of columns than the header")
            yield reader.line_num, dict(zip(header, row, strict=False))  # a blank line has no columns at all
    except csv.Error as error:
        raise StgEvalError(f"{path}, line {reader.line_num}: {error}") from error


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(io.StringIO(text), 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError as error:
            raise StgEvalError(f"{path}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict):
            raise StgEvalError(f"{path}, line {number}: must be an object such as {{'prompt': ...}}")
        yield number, row
