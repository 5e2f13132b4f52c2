"""The store keeps clips, features and scores of every run, content-addressed by `Request.key`.

Files come first, rows after: a row in the database promises a complete file, so whatever kills a run loses at most the
batch in flight. A row has its file's SHA-256; whoever reads a clip to score or show it checks it (`damage`). One driver
writes at a time (a lock file); readers need no lock (SQLite, write-ahead log).

    store/
      store.sqlite        clips, features, scores
      clips/ab/ab12….mp4  named by key
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from stg_eval.storage import atomic, lock
from stg_eval.types import Clip, Request, Score, StgEvalError, check_text, to_json

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

TURN = 60.0
"""Seconds that a writer waits for another's batch to be recorded."""
_KEY = re.compile("[0-9a-f]{64}")
CLIP_COLUMNS = ("sha256", "num_frames", "height", "width", "fps", "encoding", "seconds")


def clip_name(key: str) -> str:
    """Say where a clip lies in its store. Raises StgEvalError for what is no key (a store may come from anywhere)."""
    if not _KEY.fullmatch(key):
        raise StgEvalError(f"the store holds a clip under {key!r}, which is no key of a request; it is damaged")
    return f"clips/{key[:2]}/{key}.mp4"


def damage(path: Path, sha256: str) -> str | None:
    """Say what is wrong with the bytes of a stored clip, in one line without its path; None if they are those
    recorded."""
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == sha256 else "its bytes are not those that were stored (SHA-256 differs)"


class Store:
    """A folder of clips and what is known of them. Use as a context manager.

    Raises StgEvalError when the folder cannot be used: unwritable, damaged, written by a newer version, or (for
    `write=True`) held by another driver. Who makes no clips passes `alone=False` and writes beside a driver: in
    SQLite they take turns, and the rows of both stay.
    """

    def __init__(self, path: Path, *, write: bool = True, alone: bool = True) -> None:
        check_text(str(path.absolute()))
        self.path = path
        self._lock: int | None = None
        if not write and not (path / "store.sqlite").is_file():
            raise StgEvalError(f"no store at {path}; give the folder that `stg-eval run --store` wrote")
        try:
            if write:
                path.mkdir(parents=True, exist_ok=True)
                self._lock = self._claim(alone)
            self._db = _connect(path / "store.sqlite", write)
            self._opened = _identity(path / "store.sqlite")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > FORMAT:
                self.close()
                raise StgEvalError(f"{path} was written by a newer stg-eval (store format {version}); upgrade stg-eval")
            if write:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
            if version == 0 and write:
                self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
            if not alone:
                self._release()
            elif write:
                for folder in path.glob("clips/*"):
                    atomic.sweep(folder)
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
        self._release()

    def _claim(self, alone: bool) -> int | None:
        """Return the lock; None where another has it and made the database, which is all that a lock is needed for
        beside another."""
        try:
            return lock.take(self.path / "lock", "give another --store")
        except StgEvalError:
            if alone or not (self.path / "store.sqlite").is_file():
                raise
            return None

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clip_file(self, request: Request) -> Path:
        """Say where the request's clip belongs, written or not; its folder is there."""
        file = self.path / clip_name(request.key)
        with self._explained():
            file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def add_clips(self, clips: Iterable[tuple[Request, Clip]]) -> None:
        """Record complete files, all of them or none: a batch never counts in part. What was computed on other bytes
        of the same key goes with them."""
        other_bytes = "SELECT key FROM clips WHERE key = ? AND sha256 != ?"
        with self.transaction():
            rows = []
            for request, clip in clips:
                size = (self.path / clip.file).stat().st_size
                text = json.dumps(to_json(request), ensure_ascii=False)
                rows.append((clip.key, text, clip.file, size, *(getattr(clip, name) for name in CLIP_COLUMNS)))
            for table in ("scores", "features"):
                self._db.executemany(
                    f"DELETE FROM {table} WHERE key IN ({other_bytes})", [(row[0], row[4]) for row in rows]
                )
            self._db.executemany(f"INSERT OR REPLACE INTO clips VALUES ({','.join('?' * 11)})", rows)

    def clips(self, keys: Sequence[str]) -> dict[str, Clip]:
        """Map key -> recorded clip, for those whose file is still there and has its size; others count as never
        made."""
        query = f"SELECT key, bytes, {', '.join(CLIP_COLUMNS)} FROM clips WHERE key IN ({{}})"
        return {clip.key: clip for size, clip in map(_clip, self._lookup(query, keys)) if self._size(clip.file) == size}

    def recorded(self, keys: Sequence[str]) -> set[str]:
        """Return those keys under which a clip was once recorded, whatever became of its file."""
        return {key for (key,) in self._lookup("SELECT key FROM clips WHERE key IN ({})", keys)}

    def all_clips(self) -> Iterator[Clip]:
        """Yield every recorded clip in the order of keys, whatever became of its file."""
        query = f"SELECT key, bytes, {', '.join(CLIP_COLUMNS)} FROM clips WHERE key > ? ORDER BY key LIMIT 500"
        last = ""
        while True:
            with self._explained():
                rows = self._db.execute(query, (last,)).fetchall()
            if not rows:
                return
            yield from (clip for _, clip in map(_clip, rows))
            last = rows[-1][0]

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return those keys that `clips` would give, without reading what is known of them."""
        ours = {key: key for key in keys}  # of a large run, one copy of its keys is enough
        found = self._lookup("SELECT key, bytes FROM clips WHERE key IN ({})", keys)
        return {ours[key] for key, size in found if self._size(clip_name(key)) == size}

    def set_aside(self, keys: Sequence[str]) -> None:
        """Take damaged clips out of use, so that the next run makes them again: the file gets the suffix .damaged. The
        row stays: if the same bytes come back, their scores still hold (see `add_clips`)."""
        with self._explained():
            for path in (self.path / clip_name(key) for key in keys):
                if path.is_file():
                    path.replace(path.with_name(path.name + ".damaged"))

    def _size(self, name: str) -> int | None:
        try:
            return os.stat(f"{self.path}/{name}").st_size
        except OSError:
            return None

    def add_results(self, scores: Iterable[Score], features: Mapping[tuple[str, str], np.ndarray]) -> None:
        """Record scores and features {(key, extractor signature): float32 [D]}, all of them or none."""
        with self.transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO scores VALUES (?, ?, ?)",
                [(s.key, s.metric, None if np.isnan(s.value) else s.value) for s in scores],
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                [(key, name, np.ascontiguousarray(f, "<f4").tobytes()) for (key, name), f in features.items()],
            )

    def scores(self, keys: Sequence[str], metric: str) -> dict[str, float]:
        """Map key -> value for those keys that have one; nan where the metric is not defined for the clip."""
        found = self._lookup("SELECT key, value FROM scores WHERE metric = ? AND key IN ({})", keys, metric)
        return {key: float("nan") if value is None else value for key, value in found}

    def features(self, keys: Sequence[str], extractor: str) -> dict[str, np.ndarray]:
        """Map key -> float32 [D] for those keys that have features of this extractor."""
        found = self._lookup("SELECT key, data FROM features WHERE extractor = ? AND key IN ({})", keys, extractor)
        return {key: np.frombuffer(data, "<f4") for key, data in found}

    def with_features(self, keys: Sequence[str], extractor: str) -> set[str]:
        """Return those keys that have features of this extractor, without reading them."""
        query = "SELECT key FROM features WHERE extractor = ? AND key IN ({})"
        return {key for (key,) in self._lookup(query, keys, extractor)}

    def _lookup(self, query: str, keys: Sequence[str], *first: str) -> Iterator[tuple[Any, ...]]:
        keys = sorted(keys)  # as the rows lie on the disk
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            with self._explained():
                found = self._db.execute(query.format(",".join("?" * len(part))), (*first, *part)).fetchall()
            yield from found

    @contextmanager
    def attached(self, other: Path) -> Iterator[sqlite3.Connection]:
        """The database, with that of another store read along as `other`."""
        with self._explained():
            self._db.execute("ATTACH ? AS other", (_uri(other / "store.sqlite"),))
            try:
                yield self._db
            finally:
                self._db.execute("DETACH other")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that the block writes, or none of it."""
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
            if _identity(self.path / "store.sqlite") != self._opened:
                raise StgEvalError(
                    f"{self.path / 'store.sqlite'} was removed or replaced while it was in use, and what this process "
                    "writes would be lost; put it back, or run the same command again"
                )
            yield
        except (OSError, sqlite3.Error) as error:
            raise _explain(error, self.path) from error


def _connect(file: Path, write: bool) -> sqlite3.Connection:
    """A reader changes nothing. Where it may not even write the index that readers of a write-ahead log share, it reads
    the file alone, which is complete unless a log lies beside it."""
    uri = f"file:{quote(str(file.absolute()))}" if write else _uri(file)
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=TURN)


def _uri(file: Path) -> str:
    alone = not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()
    return f"file:{quote(str(file.absolute()))}?{'immutable=1' if alone else 'mode=ro'}"


def _clip(row: Sequence[Any]) -> tuple[int, Clip]:
    key, size, *values = row
    return size, Clip(key=key, file=clip_name(key), **dict(zip(CLIP_COLUMNS, values, strict=True)))


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _explain(error: OSError | sqlite3.Error, path: Path) -> StgEvalError:
    text = str(error)
    if error.errno == errno.ENOSPC if isinstance(error, OSError) else "full" in text:
        return StgEvalError(f"the disk of {path} is full; free some space and run the same command again, it resumes")
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        return StgEvalError(f"cannot write to {path} ({text}); choose a folder that you may write to with --store")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return StgEvalError(f"{path / 'store.sqlite'} is damaged ({text}); move the folder away and run again")
    return StgEvalError(f"cannot use the store {path}: {text}")
