"""The study of a run on disk: clips, raters, trials and what was answered, in RUN/rating/study.sqlite.

An answer is acknowledged after it is on the disk (SQLite, synchronous=FULL), and a trial takes exactly one: the same
answer again is acknowledged again, another one is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from stg_eval.rating.aspects import Mode
from stg_eval.types import StgEvalError

FORMAT = 1
SCHEMA = """
CREATE TABLE study (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE clips (
    id INTEGER PRIMARY KEY, case_id TEXT NOT NULL, seed INTEGER NOT NULL, prompt TEXT NOT NULL, variant TEXT NOT NULL,
    anchor TEXT NOT NULL, file TEXT NOT NULL, seconds REAL NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL
);
CREATE TABLE raters (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token TEXT NOT NULL UNIQUE);
CREATE TABLE trials (
    id TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL,
    left INTEGER NOT NULL REFERENCES clips, right INTEGER REFERENCES clips, UNIQUE (rater, position)
) WITHOUT ROWID;
CREATE TABLE answers (
    trial TEXT PRIMARY KEY REFERENCES trials, answer TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
"""


class RatedClip(NamedTuple):
    """A clip that raters see."""

    case: str
    seed: int
    prompt: str
    variant: str
    anchor: str
    """Empty, or what was done to it to screen careless raters: "frozen", "blurred"."""
    file: str
    """Below the store, an anchor's below the study's folder."""
    seconds: float = 0.0
    """Playing time."""
    height: int = 0
    width: int = 0


class Rater(NamedTuple):
    """Somebody who was invited: a pseudonym, never a name."""

    id: int
    name: str
    token: str


class Trial(NamedTuple):
    """What is shown at once."""

    id: str
    rater: int
    clips: tuple[int, ...]
    """One id, or left and right."""


class AlreadyAnswered(StgEvalError):
    """The trial has another answer already."""


class Study:
    """An open study. Every method may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the study at `path` (a .sqlite file). Raises StgEvalError where there is none or it cannot be read."""
        if not path.is_file():
            raise StgEvalError(f"no study at {path}; `stg-eval rate RUN` begins one")
        self.path = path
        self._lock = Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self.settings: dict[str, Any] = {n: json.loads(v) for n, v in self._db.execute("SELECT * FROM study")}
        except (sqlite3.Error, ValueError) as error:
            raise StgEvalError(f"the study {path} is damaged ({error}); move it away to begin a new one") from error
        if self.settings.get("format", 0) > FORMAT:
            raise StgEvalError(f"{path} was begun by a newer stg-eval; upgrade stg-eval")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @property
    def mode(self) -> Mode:
        """Single clips or pairs."""
        mode: Mode = self.settings["mode"]
        return mode

    def raters(self) -> list[Rater]:
        """Return all raters, in the order they were invited."""
        return [Rater(*row) for row in self._read("SELECT id, name, token FROM raters ORDER BY id")]

    def rater(self, token: str) -> Rater | None:
        """Return the rater with that token, compared in constant time."""
        found = None
        for one in self.raters():  # all of them, so that time does not tell how far a guess got
            if hmac.compare_digest(_digest(one.token), _digest(token)):
                found = one
        return found

    def clips(self) -> dict[int, RatedClip]:
        """Return clips by id."""
        query = "SELECT id, case_id, seed, prompt, variant, anchor, file, seconds, height, width FROM clips"
        return {row[0]: RatedClip(*row[1:]) for row in self._read(f"{query} ORDER BY id")}

    def next_trial(self, rater: Rater) -> Trial | None:
        """Return the first trial of a rater without an answer; None when all are done."""
        rows = self._read(
            "SELECT id, rater, left, right FROM trials WHERE rater = ? AND id NOT IN (SELECT trial FROM answers) "
            "ORDER BY position LIMIT 1",
            (rater.id,),
        )
        return _trial(rows[0]) if rows else None

    def trial(self, trial: str, rater: Rater) -> Trial | None:
        """Return a trial by id, if it is that rater's."""
        rows = self._read("SELECT id, rater, left, right FROM trials WHERE id = ? AND rater = ?", (trial, rater.id))
        return _trial(rows[0]) if rows else None

    def progress(self, rater: Rater) -> tuple[int, int]:
        """Return (answered, all) trials of a rater."""
        query = "SELECT COUNT(a.trial), COUNT(*) FROM trials t LEFT JOIN answers a ON a.trial = t.id WHERE t.rater = ?"
        return self._read(query, (rater.id,))[0]  # type: ignore[return-value]

    def stored(self, trial: Trial) -> dict[str, Any] | None:
        """Return the answer a trial has, if it has one."""
        rows = self._read("SELECT answer FROM answers WHERE trial = ?", (trial.id,))
        return json.loads(rows[0][0]) if rows else None

    def answer(self, trial: Trial, answer: Mapping[str, int | str], seconds: float) -> None:
        """Keep an answer: aspect -> rating 1-5 or choice. On return it is on the disk.

        seconds: from the first showing to the answer. Raises AlreadyAnswered where the trial has another one.
        """
        text = json.dumps(dict(answer), sort_keys=True)
        with self._lock, self._transaction():
            row = self._db.execute("SELECT answer FROM answers WHERE trial = ?", (trial.id,)).fetchone()
            if row is None:
                self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (trial.id, text, seconds, time.time()))
            elif row[0] != text:
                raise AlreadyAnswered("this clip is rated already; the first rating counts")

    def answers(self) -> list[tuple[str, Trial, int, dict[str, Any], float]]:
        """Return everything answered, by rater and position: (rater's name, trial, position, answer, seconds)."""
        query = (
            "SELECT r.name, t.id, t.rater, t.left, t.right, t.position, a.answer, a.seconds FROM answers a "
            "JOIN trials t ON t.id = a.trial JOIN raters r ON r.id = t.rater ORDER BY r.id, t.position"
        )
        return [
            (name, _trial((id_, rater, left, right)), position, json.loads(answer), seconds)
            for name, id_, rater, left, right, position, answer, seconds in self._read(query)
        ]

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _transaction(self) -> Any:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._rollback()
            raise StgEvalError(f"the study {self.path} cannot be written ({error}); free space and go on") from error
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def create(
    path: Path,
    settings: Mapping[str, Any],
    clips: Sequence[RatedClip],
    trials: Sequence[Sequence[tuple[int, int | None]]],
) -> None:
    """Write a new study whole, with a random token for each rater and a random id for each trial.

    trials: for each rater, the indices into `clips` that are shown: (left, right or None). Raises StgEvalError where
    the disk refuses.
    """
    partial = path.with_name("study.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # tokens are for its owner alone
        db = sqlite3.connect(partial)
        with db:
            db.executescript(SCHEMA)
            everything = {"format": FORMAT, **settings}
            db.executemany("INSERT INTO study VALUES (?, ?)", [(n, json.dumps(v)) for n, v in everything.items()])
            for i, clip in enumerate(clips):
                db.execute("INSERT INTO clips VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (i, *clip))
            for rater, shown in enumerate(trials):
                name = f"rater-{rater + 1:02d}"
                db.execute("INSERT INTO raters VALUES (?, ?, ?)", (rater, name, secrets.token_urlsafe(24)))
                rows = [(secrets.token_urlsafe(16), rater, at, *sides) for at, sides in enumerate(shown)]
                db.executemany("INSERT INTO trials VALUES (?, ?, ?, ?, ?)", rows)
        db.close()
        partial.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise StgEvalError(f"cannot begin a study at {path} ({error}); mend that and try again") from error


def _trial(row: Sequence[Any]) -> Trial:
    id_, rater, left, right = row
    return Trial(id_, rater, (left,) if right is None else (left, right))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
