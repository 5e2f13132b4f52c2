"""What a run directory holds, as reports and comparisons read it: run.json, scores.csv, table.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

import pandas as pd

from stg_eval.statistics.counting import Counting
from stg_eval.storage import csv_text
from stg_eval.storage.record import RunRecord, read_record
from stg_eval.types import StgEvalError, check_text

FORMAT = 1


class DamagedResults(StgEvalError):
    """The files of a run do not fit together, or cannot be read."""


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
    kind: Literal["clip", "set", "total", "pair"]
    """"clip": every clip has a value in scores.csv. "set": only the set has one; scores.csv says which clips count.
    "total": a sum of other metrics, which has no column there. "pair": of the gate alone, every pair has a value."""
    filter: str = ""
    """The metric that says which clips this one counts, see `stg_eval.statistics.counting.Counting`."""
    paired: bool = False
    """Compares a clip with the baseline's, which has no value itself."""


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


@dataclass(frozen=True)
class Results:
    """A finished (or partial) run."""

    path: Path
    run: RunRecord
    columns: tuple[Column, ...]
    estimates: tuple[Estimate, ...]
    scores: pd.DataFrame
    """One row a clip: variant, case, prompt, label, tags, seed, key, file, then one column a metric: scores of a clip
    metric, for a set metric whether it counts the clip (see `stg_eval.statistics.counting`)."""

    @property
    def store(self) -> Path:
        """The folder of the run's clips."""
        return Path(self.run.store or self.path)

    @property
    def variants(self) -> list[str]:
        return [variant.name for variant in self.run.variants]

    def estimate(self, variant: str, metric: str) -> Estimate | None:
        return next((e for e in self.estimates if (e.variant, e.metric) == (variant, metric)), None)

    def wanted(self, metric: str) -> pd.Series:
        """For each row of `scores`, whether the metric is computed on its clip (as `Plan.scored` has it)."""
        rule = Counting(
            metric_clips=self.run.metric_clips,
            score_by_tag=self.run.score_by_tag,
            keep=self.run.keep_static,
            filters={column.name: column.filter for column in self.columns},
            paired=frozenset(column.name for column in self.columns if column.paired),
        )
        wanted = pd.Series(False, index=self.scores.index)
        for variant, tags in self.scores["tags"].fillna("").map(csv_text.words).groupby(self.scores["variant"]):
            wanted[tags.index] = rule.computed(metric, tags.tolist(), is_baseline=variant == self.run.baseline)
        return wanted


def save(results: Results) -> None:
    """Write the three files, table.json last: its presence marks a complete set. Same input, same bytes.

    Raises StgEvalError where the disk refuses.
    """
    table = {
        "format": FORMAT,
        "columns": [asdict(c) for c in results.columns],
        "estimates": [asdict(e) for e in results.estimates],
    }
    try:
        results.path.mkdir(parents=True, exist_ok=True)
        (results.path / "table.json").unlink(missing_ok=True)
        _write(results.path / "run.json", results.run.to_json())
        _write(results.path / "scores.csv", csv_text.of_frame(results.scores))
        _write(results.path / "table.json", json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise StgEvalError(
            f"cannot write the results to {results.path} ({error.strerror}); mend that and run the same command again, "
            "what is finished is kept"
        ) from error


def check_writable(path: Path) -> None:
    """Make the folder of a run, and refuse before any work one that results could not be written to after it."""
    check_text(str(path.absolute()))
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StgEvalError(f"cannot write to {path} ({error.strerror}); choose another with --output") from error


def load(path: Path) -> Results:
    """Read a run directory. Raises StgEvalError if it is not one or was written by a newer version, DamagedResults."""
    if not (path / "table.json").is_file():
        raise StgEvalError(f"{path} holds no finished run (no table.json); give a folder that `stg-eval run` wrote")
    try:
        table = json.loads((path / "table.json").read_text(encoding="utf-8"))
        if table["format"] > FORMAT:
            raise StgEvalError(f"{path} was written by a newer stg-eval (format {table['format']}); upgrade stg-eval")
        run = read_record((path / "run.json").read_bytes())
        columns = tuple(Column(**c) for c in table["columns"])
        scores = read_scores(path / "scores.csv", columns)
        estimates = tuple(Estimate(**e) for e in table["estimates"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedResults(f"{path} is damaged ({error}); run the same `stg-eval run` again") from error
    return Results(path, run, columns, estimates, scores)


def read_scores(file: Path | IO[bytes], columns: Sequence[Column]) -> pd.DataFrame:
    """Results.scores from CSV: text stays text even if it looks like a number or like "NA"; only numbers may lack."""
    text = dict.fromkeys(("variant", "case", "prompt", "tags", "key", "file"), str)
    numbers = ["label", *(column.name for column in columns)]
    return pd.read_csv(file, dtype=text, keep_default_na=False, na_values={name: [""] for name in numbers})


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
