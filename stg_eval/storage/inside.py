"""Names of files that were read from a file: they lead to where they belong, or nowhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from pathlib import Path

from stg_eval.storage.store import Store, damage
from stg_eval.types import StgEvalError


def inside(root: Path, name: str) -> Path:
    """Find the file `name` below `root`, links followed. Raises StgEvalError where it leads out of it."""
    try:
        path = (root / name).resolve()
        path.is_file()  # where the name is none that a disk could hold, this says so
        fits = path.is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a zero byte
        fits = False
    if not fits:
        raise StgEvalError(f"{name!r} leads out of {root}: whoever wrote that is not to be trusted")
    return path


def clip_path(store: Path, file: str, key: str) -> Path:
    """Find the clip of a row of scores.csv: below the store's clips/ (which may be a link to another disk); for a
    folder of videos that was scored where it lies, the very file whose digest is the key.

    The file may be gone. Raises StgEvalError for a name that leads anywhere else: a run folder that someone sent may
    name what is none of its business.
    """
    if not key.startswith("file/"):
        return inside(store / "clips", file.removeprefix("clips/"))
    path = Path(file)
    if path.is_file():
        with open(path, "rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != key.removeprefix("file/"):
                raise StgEvalError(f"{file} is not the file that was scored")
    return path


def finding(store: Path, keys: Collection[str]) -> Callable[[str, str], Path]:
    """Return what finds clips of these keys by file and key, as `clip_path` does, and compares their bytes with the
    digests that the store recorded. What it raises says how a changed clip is made again."""
    digests: dict[str, str] = {}
    if (store / "store.sqlite").is_file():
        with Store(store, write=False) as opened:
            digests = {clip.key: clip.sha256 for clip in opened.all_clips() if clip.key in keys}

    def find(file: str, key: str) -> Path:
        path = clip_path(store, file, key)
        if key in digests and path.is_file() and (problem := damage(path, digests[key])):
            raise StgEvalError(
                f"{path}: {problem}; `stg-eval store verify`, then the same `stg-eval run`, make it again"
            )
        return path

    return find
