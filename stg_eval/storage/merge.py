"""Stores that were filled apart become one: the shares of a run, or the work of several machines."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from stg_eval.storage import atomic
from stg_eval.storage.store import Store, damage
from stg_eval.types import Clip, StgEvalError

SHOWN = 5
"""Keys that an error names."""


@dataclass
class Merged:
    """What a merge did."""

    clips: int = 0
    there: int = 0
    """Clips that the target had already."""
    damaged: list[str] = field(default_factory=list)
    """One line for each clip that was left out because its bytes are not those that were stored."""


def merge(target: Store, source: Path) -> Merged:
    """Take the clips, scores and features of the store at `source` over into `target`; the source is only read.

    Files come first and rows after, 500 clips at a time, so a merge that was cut off is completed by the same command.

    Raises StgEvalError that names the keys under which both stores hold different bytes, scores or features; nothing of
    that source is merged then.
    """
    done = Merged()
    with Store(source, write=False) as other, target.attached(source) as db:
        _refuse_differences(db, target.path, source)
        group: list[Clip] = []
        for clip in other.all_clips():
            group.append(clip)
            if len(group) == 500:
                _take(db, target, source, group, done)
                group = []
        _take(db, target, source, group, done)
        with target.transaction():
            for table in ("scores", "features"):
                db.execute(
                    f"INSERT OR IGNORE INTO {table} SELECT * FROM other.{table} "
                    "WHERE key IN (SELECT key FROM clips) OR key NOT IN (SELECT key FROM other.clips)"
                )
    return done


def _take(db: sqlite3.Connection, target: Store, source: Path, group: list[Clip], done: Merged) -> None:
    there = target.clips([clip.key for clip in group])
    rows = []
    for clip in group:
        if clip.key in there:
            done.there += 1
            continue
        problem = damage(source / clip.file, clip.sha256)
        if problem:
            done.damaged.append(f"{source / clip.file}: {problem}")
            continue
        try:
            with atomic.replacing(target.path / clip.file) as partial:
                shutil.copyfile(source / clip.file, partial)
        except OSError as error:
            raise StgEvalError(
                f"cannot write {target.path / clip.file} ({error.strerror}); mend that and merge again"
            ) from error
        rows.append((clip.key,))
    with target.transaction():
        db.executemany("INSERT OR REPLACE INTO clips SELECT * FROM other.clips WHERE key = ?", rows)
    done.clips += len(rows)


def _refuse_differences(db: sqlite3.Connection, target: Path, source: Path) -> None:
    queries = {
        "clips": "SELECT key FROM clips a JOIN other.clips b USING (key) WHERE a.sha256 != b.sha256",
        "scores": "SELECT key FROM scores a JOIN other.scores b USING (key, metric) WHERE a.value IS NOT b.value",
        "features": "SELECT key FROM features a JOIN other.features b USING (key, extractor) WHERE a.data != b.data",
    }
    for what, query in queries.items():
        keys = sorted({str(key) for (key,) in db.execute(query)})
        if keys:
            more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
            raise StgEvalError(
                f"{target} and {source} hold different {what} under one key: {', '.join(keys[:SHOWN])}{more}; they "
                "were made by different software or hardware and cannot be one store"
            )
