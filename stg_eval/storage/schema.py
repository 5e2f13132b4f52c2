"""What the columns, cells and scores of a run are, and how files that hold them are read and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from stg_eval.storage.record import RunRecord, first_problem

TEXT = ("variant", "case", "prompt", "tags", "key", "file")
"""Columns of scores.csv that hold text, whatever it looks like."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One metric of a table."""

    name: str
    title: str
    short: str
    higher_is_better: bool | None
    """None: neither direction is better."""
    scale: float
    digits: int
    signature: str
    note: str
    kind: Literal["clip", "set", "total", "missing", "pair"]
    """"clip": every clip has a value in scores.csv. "set": only the set has one; scores.csv says which clips count.
    "total": a sum of other metrics; "missing": its weights were not here: neither has a column there. "pair": of the
    gate alone, every pair has a value."""
    filter: str = ""
    """The metric that says which clips this one counts, see `stg_eval.statistics.counting.Counting`."""
    paired: bool = False
    """Compares a clip with the baseline's, which has no value itself."""

    @property
    def unsized(self) -> str:
        """The signature without the number of clips, which is told by the clips themselves."""
        return re.sub(r"\|n\d+\|", "|n*|", self.signature)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One cell: a metric's value for one variant, with its paired difference from the baseline variant."""

    variant: str
    metric: str
    value: float
    """Unscaled, as the metric returns it; nan where it could not be computed."""
    low: float
    high: float
    """95 % interval of value; nan where none is defined."""
    n: int
    baseline: str | None
    """The variant that difference refers to; None for the baseline itself."""
    difference: float
    difference_low: float
    difference_high: float
    p_value: float
    published: float | None = None
    problem: str = ""
    """Why there is no value, in one line."""


class Table(BaseModel):
    """table.json."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int
    columns: tuple[Column, ...]
    estimates: tuple[Estimate, ...]


def read_table(text: bytes) -> Table:
    """Raises ValueError (one line) where table.json is damaged."""
    try:
        return Table.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"table.json: {first_problem(error)}") from error


def check_estimates(estimates: Sequence[Estimate], run: RunRecord, columns: Sequence[Column]) -> None:
    """Raises ValueError for a cell of no row or column, or for two of one."""
    rows, names = {variant.name for variant in run.variants}, {column.name for column in columns}
    seen = set()
    for cell in estimates:
        if cell.variant not in rows or cell.metric not in names or cell.baseline not in {None, *rows}:
            raise ValueError(f"table.json: a cell of {cell.variant!r} and {cell.metric!r}, which the run has not")
        if (cell.variant, cell.metric) in seen:
            raise ValueError(f"table.json: two cells of {cell.variant!r} and {cell.metric!r}")
        seen.add((cell.variant, cell.metric))


def check(run: RunRecord, columns: Sequence[Column], scores: pd.DataFrame) -> None:
    """Raises ValueError where scores.csv, the columns and the record of a run or a baseline do not fit together."""
    names = [column.name for column in columns]
    if len({*names, *TEXT, "label", "seed"}) < len(names) + len(TEXT) + 2:
        raise ValueError("two columns have one name")
    for column in columns:
        if not 0 <= column.digits <= 15 or not 0 < column.scale < math.inf:
            raise ValueError(f"{column.name} cannot be printed: {column.digits} digits, scale {column.scale}")
        if column.kind == "set" and column.name not in run.features:
            raise ValueError(f"run.json does not say where the features of {column.name} are")
        if column.kind == "clip" and column.name not in scores:
            raise ValueError(f"scores.csv has no column {column.name}")
    kinds = {"seed": "iu", "label": "iuf"} | {c.name: "b" if c.kind == "set" else "iuf" for c in columns}
    have = {str(name) for name in scores}
    absent, strange = {"variant", "case", "prompt", "label", "seed", "key"} - have, have - {*TEXT, *kinds}
    if absent or strange:
        raise ValueError(f"scores.csv has {'no' if absent else 'a strange'} column {min(absent or strange)!r}")
    for name in have & kinds.keys():
        if len(scores) and scores[name].dtype.kind not in kinds[name]:
            raise ValueError(f"scores.csv: {name} holds what it should not, such as text")
    if stranger := set(scores["variant"]) - {variant.name for variant in run.variants}:
        raise ValueError(f"scores.csv: {min(stranger)!r} is none of the variants")


def read_scores(file: Path | IO[bytes], columns: Sequence[Column]) -> pd.DataFrame:
    """Return Results.scores from CSV: text stays text even if it looks like a number or like "NA"; only numbers may
    lack."""
    lacking = {name: [""] for name in ("label", *(column.name for column in columns))}
    return pd.read_csv(file, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=lacking)
