"""A file or folder takes its name when it is whole: readers see the old one or the new one, never half of one.

A folder that holds other things too is renewed in two steps: its new files lie together below NEW, from one rename on,
and then move to their places. Whoever reads with `newest` finds all of them as soon as the rename has happened.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEW = ".new"
_LEFTOVER = re.compile(r"\.[0-9a-f]{8}\.partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` when the block ends, and is removed when it fails.

    The temporary name is the writer's own and 17 bytes long, however long the name that it stands for: two processes
    never share one, and a name of 255 bytes can be written. What is written is a file (of a folder: `renewing`);
    missing parents are made. Raises OSError as the disk does; `path` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        _remove(partial)
        raise


def write(path: Path, data: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8, its line ends as they are. Raises OSError as the disk does."""
    with replacing(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def renewing(folder: Path) -> Iterator[Path]:
    """Give an empty folder, whose files take their places in `folder` together when the block ends; what else is there
    stays. Call it under a lock. A process that is killed leaves the old files or the new ones, which the next
    `settle` moves. Raises OSError as the disk does; `folder` is then as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    partial = _beside(folder / NEW)
    try:
        partial.mkdir()
        yield partial
        partial.rename(folder / NEW)
    except BaseException:
        _remove(partial)
        raise
    settle(folder)


def settle(folder: Path) -> None:
    """Finish what a killed process had renewed, and remove what it left unfinished. Call it under a lock."""
    for path in sorted((folder / NEW).rglob("*")):
        if path.is_file():
            target = folder / path.relative_to(folder / NEW)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    _remove(folder / NEW)
    sweep(folder)


def newest(folder: Path, name: str) -> Path:
    """Return the file of that name in a folder that `renewing` renews."""
    new = folder / NEW / name
    return new if new.is_file() else folder / name


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder. Call it where no other process writes: under a lock."""
    for name in os.listdir(folder) if folder.is_dir() else ():
        if _LEFTOVER.fullmatch(name):
            _remove(folder / name)


def _beside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(4)}.partial")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
