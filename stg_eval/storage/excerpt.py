"""A store with a few of another's clips: what a run takes along when it leaves this machine."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from stg_eval.storage.store import Store


def excerpt(source: Path, target: Path, keys: Sequence[str]) -> dict[str, str]:
    """Write the rows of `keys` to a new store at `target`, without files; returns name -> SHA-256 of the clips that
    belong there and lie below `source`.

    keys: of clips, and those under which scores and features alone are kept (pairs, real clips). Images of requests
    keep their name and lose their folder. Same rows, same bytes.
    """
    wanted = sorted(set(keys))
    with Store(target) as store, store.attached(source) as db:
        for table in ("clips", "scores", "features"):
            with store.transaction():
                for start in range(0, len(wanted), 500):
                    part = wanted[start : start + 500]
                    marks = ",".join("?" * len(part))
                    db.execute(f"INSERT INTO {table} SELECT * FROM other.{table} WHERE key IN ({marks})", part)
        requests = db.execute("SELECT request, key FROM clips ORDER BY key").fetchall()
        with store.transaction():
            db.executemany("UPDATE clips SET request = ? WHERE key = ?", [(_bare(text), key) for text, key in requests])
        files = {clip.file: clip.sha256 for clip in store.all_clips()}
    _settle(target)
    return files


def requests_of(store: Path) -> list[str]:
    """Return what the clips of a store were asked for with, as JSON."""
    db = sqlite3.connect(f"file:{quote(str((store / 'store.sqlite').absolute()))}?mode=ro", uri=True)
    try:
        return [text for (text,) in db.execute("SELECT request FROM clips ORDER BY key")]
    finally:
        db.close()


def _bare(request: str) -> str:
    found: dict[str, Any] = json.loads(request)
    image = found.get("case", {}).get("image")
    if image:
        found["case"]["image"] = PurePath(image.replace("\\", "/")).name
    return json.dumps(found, ensure_ascii=False)


def _settle(folder: Path) -> None:
    """Leave one file: the database without its log and the lock."""
    db = sqlite3.connect(folder / "store.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("VACUUM")
    db.close()
    (folder / "lock").unlink(missing_ok=True)
