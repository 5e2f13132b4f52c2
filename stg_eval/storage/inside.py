"""Names of files that were read from a file: they lead to where they belong, or nowhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stg_eval.types import StgEvalError


def inside(root: Path, name: str) -> Path:
    """Find the file `name` below `root`, links followed. Raises StgEvalError where it leads out of it."""
    try:
        path = (root / name).resolve()
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
