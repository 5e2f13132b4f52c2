"""What a run directory holds, as reports and comparisons read it: run.json, scores.csv, table.json."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from stg_eval.statistics.counting import Counting
from stg_eval.storage import atomic, csv_text, lock
from stg_eval.storage.record import FORMAT as RECORD_FORMAT
from stg_eval.storage.record import FileDigest, RunRecord, read_record, refuse_newer
from stg_eval.storage.schema import Column, Estimate, check, check_estimates, read_scores, read_table
from stg_eval.types import StgEvalError, check_text

__all__ = [
    "Column",
    "DamagedResults",
    "Estimate",
    "Results",
    "check_writable",
    "holding",
    "load",
    "run_folders",
    "save",
]

FORMAT = 1
SKIPPED = {"report", "clips"}
"""Folders in which no run lies."""
ATTEMPTS = 5
"""How often a folder is read that another process is writing to."""


class DamagedResults(StgEvalError):
    """The files of a run do not fit together, or cannot be read."""


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
        """The folder of the run's clips; one that is not absolute lies in the run's folder, wherever that went."""
        return self.path / (self.run.store or "")

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


def save(results: Results) -> Results:
    """Write the three files, all of them or none; returns the results as they are read back. Same input, same bytes.

    run.json names the digests of the other two. Call it under a lock, see `holding`. Raises StgEvalError where the
    disk refuses; an earlier run in the folder is then as it was.
    """
    table = {
        "format": FORMAT,
        "columns": [asdict(c) for c in results.columns],
        "estimates": [asdict(e) for e in results.estimates],
    }
    cells = (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()
    rows = {"scores.csv": len(results.scores), "table.json": len(results.estimates)}
    try:
        with atomic.renewing(results.path) as new:
            with open(new / "scores.csv", "wb") as file:
                csv_text.write_frame(results.scores, file)
            (new / "table.json").write_bytes(cells)
            files = {}
            for name, count in rows.items():
                with open(new / name, "rb") as file:
                    files[name] = FileDigest(sha256=_sha256(file), rows=count)
            record = results.run.model_copy(update={"format": RECORD_FORMAT, "files": files})
            (new / "run.json").write_bytes(record.to_json().encode())
    except OSError as error:
        raise StgEvalError(
            f"cannot write the results to {results.path} ({error.strerror}); mend that and run the same command again, "
            "what is finished is kept"
        ) from error
    return replace(results, run=record)


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Make the folder of a run and keep other processes from writing results to it; what a killed one left is put in
    order. Raises StgEvalError for a folder that is in use, or that results could not be written to after the work."""
    check_text(str(path.absolute()))
    with ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock.held(path / ".lock", "give another --output"))
            atomic.settle(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        yield


def check_writable(path: Path) -> None:
    """Make the folder of a run, and refuse before any work one that results could not be written to after it."""
    check_text(str(path.absolute()))
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def load(path: Path) -> Results:
    """Read a run directory. Raises StgEvalError if it is not one or was written by a newer version, DamagedResults."""
    if not any((folder / "table.json").is_file() for folder in (path, path / atomic.NEW)):
        raise StgEvalError(f"{path} holds no finished run (no table.json); give a folder that `stg-eval run` wrote")
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise DamagedResults(f"{path} is damaged ({told[:300]}); run the same `stg-eval run` again") from error


def run_folders(path: Path) -> list[Path]:
    """Find the runs in a folder, in the natural order of their names; one that is a run itself, or holds none, is
    returned alone. Hidden folders, stores and reports are not looked into."""
    if atomic.newest(path, "table.json").is_file():
        return [path]
    found = []
    for folder, inner, files in os.walk(path):
        if "table.json" in files:
            found.append(Path(folder))
        leaf = {"table.json", "store.sqlite"} & set(files)
        inner[:] = [] if leaf else [name for name in inner if not name.startswith(".") and name not in SKIPPED]
    return sorted(found, key=_natural) or [path]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key in which run 9 comes before run 10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def _read(path: Path) -> Results:
    """Raises OSError, ValueError."""
    for left in reversed(range(ATTEMPTS)):
        try:
            run, cells, rows = _files(path)
            break
        except (FileNotFoundError, _Changed):
            if not left:
                raise
            time.sleep(0.02)  # another process is putting a new run in its place
    table = read_table(cells)
    scores = read_scores(io.BytesIO(rows), table.columns)
    check(run, table.columns, scores)
    if not {"tags", "file"} <= set(scores):
        raise ValueError("scores.csv does not say tags and files")
    if len(scores) != run.expected:
        raise ValueError(f"scores.csv has {len(scores)} rows, and the run was of {run.expected} clips")
    check_estimates(table.estimates, run, table.columns)
    return Results(path, run, table.columns, table.estimates, scores)


class _Changed(ValueError):
    """Files that were not written together."""


def _files(path: Path) -> tuple[RunRecord, bytes, bytes]:
    """Return run.json, table.json and scores.csv of one run."""
    found = {name: _bytes(atomic.newest(path, name)) for name in ("run.json", "table.json", "scores.csv")}
    refuse_newer(found["table.json"], path, FORMAT)
    run = read_record(found["run.json"], path)
    for name, file in run.files.items():
        if _sha256(io.BytesIO(found.get(name, b""))) != file.sha256:
            raise _Changed(f"{name} is not the file that was written with this run")
    if _bytes(atomic.newest(path, "run.json")) != found["run.json"]:
        raise _Changed("run.json changes while it is read")
    return run, found["table.json"], found["scores.csv"]


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing, or no file")
    return path.read_bytes()


def _sha256(file: io.BufferedReader | io.BytesIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _unwritable(path: Path, error: OSError) -> StgEvalError:
    return StgEvalError(f"cannot write to {path} ({error.strerror}); choose another with --output")
