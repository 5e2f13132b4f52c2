"""A prompt file of one's own: .txt (a prompt a line), .csv (with a header) or .jsonl (an object a line)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stg_eval.datasets.dataset import stratified
from stg_eval.datasets.files import check_options
from stg_eval.datasets.prompt_files import rows
from stg_eval.progress import note
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
    """Return the file's cases. Blank lines are left out, and a note says how many.

    Raises StgEvalError with the line number for an empty or repeated prompt or id, a value of another type, half a
    surrogate pair and an unknown column; also for a file that `prompt_files.rows` refuses, or without prompts.
    """
    cases: list[Case] = []
    first: dict[tuple[str, ...], int] = {}
    blank = 0
    for line, row in rows(path):
        if row is None:
            blank += 1
            continue
        try:
            case = _case(line, row)
        except StgEvalError as error:
            raise StgEvalError(f"{path}, line {line}: {error}") from error
        for what, key in (("prompt", ("prompt", case.prompt, case.negative_prompt)), ("id", ("id", case.id))):
            if key in first:
                raise StgEvalError(f"{path}, line {line}: same {what} as line {first[key]}; remove one of them")
            first[key] = line
        cases.append(case)
    if not cases:
        raise StgEvalError(f"{path} holds no prompts")
    if blank:
        note(f"{path}: {blank} blank line{'s' * (blank > 1)} skipped")
    return cases


def _case(line: int, row: Mapping[str, Any]) -> Case:
    unknown = [key for key in row if key not in FIELDS]
    if unknown:
        raise StgEvalError(f"unknown field {unknown[0]!r} (known: {', '.join(FIELDS)})")
    prompt = _text("prompt", row.get("prompt"))
    if not prompt:
        raise StgEvalError("empty prompt; remove the line")
    number = row.get("id")
    return Case(
        id=str(number) if type(number) is int else _text("id", number) or f"{line:04d}",
        prompt=prompt,
        negative_prompt=_text("negative_prompt", row.get("negative_prompt")),
        tags=_tags(row.get("tags")),
    )


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str | None):
        raise StgEvalError(f"{field} must be text, not {json.dumps(value)[:100]}")
    return (value or "").strip()


def _tags(value: Any) -> tuple[str, ...]:
    tags = value.split(";") if isinstance(value, str) else [] if value is None else value
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise StgEvalError("tags must be a list of texts")
    return tuple(tag.strip() for tag in tags if tag.strip())
