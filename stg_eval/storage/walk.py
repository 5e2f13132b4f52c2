"""One walk for videos, images and checkpoints: what is hidden is skipped, what else is left out is counted."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from stg_eval.types import StgEvalError, check_text

SYSTEM_NAMES = frozenset(
    {"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "Thumbs.db", "desktop.ini"}
)
"""What systems leave in folders under names that do not begin with a dot."""

NAMED_KINDS = 6
"""So many kinds of other files a line names."""


@dataclass(frozen=True)
class Found:
    """The files that were looked for, and a line on all others."""

    files: list[Path]
    """Sorted by path."""
    left_out: str
    """E.g. "2 .txt, 1 .heic, 1 folder"; empty where everything was taken."""


def find(folder: Path, suffixes: Collection[str], named_like: str, *, deep: bool = True) -> Found:
    """Return files with these suffixes (lower case, with dot), below linked folders too; `deep=False` takes no
    sub-folders.

    Raises StgEvalError where a name ends so and no readable file is behind it ("is named like a video and is a broken
    link"), for a name that is no UTF-8 text, and for a folder that cannot be looked into.
    """
    files, others = [], Counter[str]()
    for path in _walk(folder, others, deep):
        suffix = path.suffix.lower()
        if suffix in suffixes:
            if not path.is_file() or not os.access(path, os.R_OK):
                what = "a folder" if path.is_dir() else "a broken link" if path.is_symlink() else "no file you may read"
                raise StgEvalError(f"{path} is named like {named_like} and is {what}; mend, rename or remove it")
            check_text(str(path))
            files.append(path)
        elif not path.is_dir():
            others[suffix or "without suffix"] += 1
        elif not deep:
            others["folder"] += 1
    return Found(sorted(files), _line(others))


def visible_files(folder: Path) -> list[Path]:
    """Return every file below the folder that is not hidden, nor in a hidden or linked folder, sorted by path."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(folder / path for path in paths if not any(map(is_hidden, path.parts)))


def is_hidden(name: str) -> bool:
    """Tell whether a file or folder of this name is nobody's content: .DS_Store, ._clip.mp4, .Trash-1000, ..."""
    return name.startswith(".") or name in SYSTEM_NAMES


def _walk(folder: Path, others: Counter[str], deep: bool) -> Iterator[Path]:
    """What is not hidden. Links to folders are followed last, and no folder is entered twice: loops end."""
    entered = set[Path]()
    folders, links = [folder], deque[Path]()
    while folders or links:
        parent = folders.pop() if folders else links.popleft()
        if (real := parent.resolve()) in entered:
            others["linked folder that is counted already"] += 1
            continue
        entered.add(real)
        try:
            children = sorted(path for path in parent.iterdir() if not is_hidden(path.name))
        except OSError as error:
            raise StgEvalError(f"cannot look into {parent} ({error.strerror}); make it readable or move it") from error
        yield from children
        for path in children if deep else ():
            if path.is_dir():
                (links if path.is_symlink() else folders).append(path)


def _line(others: Counter[str]) -> str:
    named = others.most_common(NAMED_KINDS)
    rest = others.total() - sum(count for _, count in named)
    return ", ".join([f"{count} {kind}" for kind, count in named] + ([f"{rest} of other kinds"] if rest else []))
