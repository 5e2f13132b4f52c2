"""The store: clips, features and scores of every run, content-addressed by `Request.key`.

Files come first, rows after: a row in the database promises a complete file, so whatever kills a run loses at most the
batch in flight. One driver writes at a time (a lock file); readers need no lock (SQLite, write-ahead log).

    store/
      store.sqlite        clips, features, scores
      clips/ab/ab12….mp4  named by key
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stg_eval.types import Clip, Request, Score, StgEvalError, to_json

FORMAT = 1

SCHEMA = """
CREATE TABLE clips (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, file TEXT NOT NULL, bytes INTEGER NOT NULL, sha256 TEXT NOT NULL,
    num_frames INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL, fps REAL NOT NULL,
    encoding TEXT NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE features (
    key TEXT NOT NULL, extractor TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (key, extractor)
) WITHOUT ROWID;
CREATE TABLE scores (
    key TEXT NOT NULL, metric TEXT NOT NULL, value REAL, PRIMARY KEY (key, metric)
) WITHOUT ROWID;
"""

CLIP_COLUMNS = ("sha256", "num_frames", "height", "width", "fps", "encoding", "seconds")


class Store:
    """A folder of clips and what is known of them. Use as a context manager.

    Raises StgEvalError when the folder cannot be used: unwritable, damaged, written by a newer version, or (for
    `write=True`) held by another driver.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self._lock: int | None = None
        if not write and not (path / "store.sqlite").is_file():
            raise StgEvalError(f"no store at {path}; give the folder that `stg-eval run --store` wrote")
        try:
            if write:
                path.mkdir(parents=True, exist_ok=True)
                self._lock = _lock(path / "lock")
            self._db = sqlite3.connect(path / "store.sqlite", isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                self.close()
                raise StgEvalError(f"{path} was written by a newer stg-eval (store format {version}); upgrade stg-eval")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            if version == 0:
                self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise _explain(error, path) from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if hasattr(self, "_db"):
            self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clip_file(self, request: Request) -> Path:
        """Where the request's clip belongs, written or not; its folder is there."""
        file = self.path / "clips" / request.key[:2] / f"{request.key}.mp4"
        with self._explained():
            file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def add_clips(self, clips: Iterable[tuple[Request, Clip]]) -> None:
        """Record complete files, all of them or none: a batch never counts in part. What was computed on other bytes
        of the same key goes with them."""
        rows = []
        for request, clip in clips:
            size = (self.path / clip.file).stat().st_size
            text = json.dumps(to_json(request), ensure_ascii=False)
            rows.append((clip.key, text, clip.file, size, *(getattr(clip, name) for name in CLIP_COLUMNS)))
        other_bytes = "SELECT key FROM clips WHERE key = ? AND sha256 != ?"
        with self._transaction():
            for table in ("scores", "features"):
                self._db.executemany(
                    f"DELETE FROM {table} WHERE key IN ({other_bytes})", [(row[0], row[4]) for row in rows]
                )
            self._db.executemany(f"INSERT OR REPLACE INTO clips VALUES ({','.join('?' * 11)})", rows)

    def clip(self, key: str) -> Clip | None:
        """The recorded clip, if its file is still there and whole; one that is not counts as never made."""
        with self._explained():
            row = self._db.execute("SELECT * FROM clips WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            file = self.path / row[2]
            if not file.is_file() or file.stat().st_size != row[3]:
                return None
        return Clip(key=key, file=row[2], **dict(zip(CLIP_COLUMNS, row[4:], strict=True)))

    def add_results(self, scores: Iterable[Score], features: Mapping[tuple[str, str], np.ndarray]) -> None:
        """Record scores and features {(key, extractor signature): float32 [D]}, all of them or none."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)",
                [(s.key, s.metric, None if np.isnan(s.value) else s.value) for s in scores],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                [(key, name, np.ascontiguousarray(f, "<f4").tobytes()) for (key, name), f in features.items()],
            )

    def scores(self, keys: Sequence[str], metric: str) -> dict[str, float]:
        """Key -> value for those keys that have one; nan where the metric is not defined for the clip."""
        found = self._lookup("SELECT key, value FROM scores WHERE metric = ? AND key IN ({})", keys, metric)
        return {key: float("nan") if value is None else value for key, value in found}

    def features(self, keys: Sequence[str], extractor: str) -> dict[str, np.ndarray]:
        """Key -> float32 [D] for those keys that have features of this extractor."""
        found = self._lookup("SELECT key, data FROM features WHERE extractor = ? AND key IN ({})", keys, extractor)
        return {key: np.frombuffer(data, "<f4") for key, data in found}

    def _lookup(self, query: str, keys: Sequence[str], name: str) -> Iterator[tuple[str, Any]]:
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            with self._explained():
                found = self._db.execute(query.format(",".join("?" * len(part))), (name, *part)).fetchall()
            yield from found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise _explain(error, self.path) from error


def _lock(file: Path) -> int:
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 20).decode() or "another process"
        os.close(handle)
        raise StgEvalError(
            f"{file.parent} is in use by process {holder}; wait for it, or give another --store"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def _explain(error: OSError | sqlite3.Error, path: Path) -> StgEvalError:
    text = str(error)
    if error.errno == errno.ENOSPC if isinstance(error, OSError) else "full" in text:
        return StgEvalError(f"the disk of {path} is full; free some space and run the same command again, it resumes")
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        return StgEvalError(f"cannot write to {path} ({text}); choose a folder that you may write to with --store")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return StgEvalError(f"{path / 'store.sqlite'} is damaged ({text}); move the folder away and run again")
    return StgEvalError(f"cannot use the store {path}: {text}")
