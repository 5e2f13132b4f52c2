"""Where checkpoints lie on this machine, and that they are the published bytes. Nothing here opens a connection.

Files of the Hugging Face hub stay in the hub's own cache, which other programs share. All others, and what
`stg_eval.weights.fetch` takes from a folder, lie under `cache_dir()`. `require` checks the digest at every load, so a
damaged or exchanged file can never turn into a score.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stg_eval.storage.walk import visible_files
from stg_eval.types import StgEvalError
from stg_eval.weights import hub
from stg_eval.weights.download import sha256_of
from stg_eval.weights.weight import Weight, size


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is here and was found intact."""

    path: Path
    sha256: str
    """64 hex digits; of a folder, the digest of its files' digests."""

    @property
    def fingerprint(self) -> str:
        """The eight hex digits that signatures print."""
        return self.sha256[:8]


def cache_dir() -> Path:
    """Say where files live that are not in the hub's cache: STG_EVAL_CACHE, else stg-eval in the user's cache
    folder."""
    if chosen := os.environ.get("STG_EVAL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stg-eval"


def where(row: Weight) -> Path | None:
    """Return the file (or folder of a pipeline, if it is complete) on this machine, else None. Checks no digest."""
    own = own_path(row)
    if own.is_file():
        return own
    return hub.in_cache(row) if row.repo else None


def is_present(row: Weight) -> bool:
    """Tell whether the checkpoint is on this machine."""
    return where(row) is not None


def require(row: Weight) -> Checkpoint:
    """Return the checkpoint, its digest checked now. Never opens a connection.

    Raises StgEvalError with the command that mends it: missing, or not the bytes that were published.
    """
    path = where(row)
    if path is None:
        raise StgEvalError(
            f"weights {row.name!r} ({size(row)}, for {row.needed_by}) are missing; get them with: "
            f"stg-eval weights fetch {row.name}"
        )
    found, expected = _digest(path), expected_digest(row, path)
    if expected and found != expected:
        raise StgEvalError(
            f"{path} is damaged or another file (SHA-256 {found[:16]}..., expected {expected[:16]}...); delete it, "
            f"then: stg-eval weights fetch {row.name}"
        )
    return Checkpoint(path, found)


def load_torch(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the tensors of a .pth file, on the CPU. Unpickles tensors and plain containers only, never code."""
    import torch

    return torch.load(checkpoint.path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(checkpoint.path))  # type: ignore[no-any-return]


def own_path(row: Weight) -> Path:
    """Say where a fetched file lies that is not in the hub's cache."""
    return cache_dir() / "weights" / row.name / Path(row.file).name


def note_path(row: Weight) -> Path:
    """Say where the digest of the first fetch stands, of a file without a published one."""
    return cache_dir() / "weights" / row.name / "sha256"


def expected_digest(row: Weight, path: Path) -> str | None:
    """Say what the SHA-256 of `path` must be: the published, the hub's, or that of the first fetch; None if unknown."""
    if row.sha256:
        return row.sha256
    if path.is_file():
        blob = path.resolve().name  # the hub's cache names large files by their SHA-256
        if re.fullmatch("[0-9a-f]{64}", blob):
            return blob
        if path == own_path(row) and note_path(row).is_file():
            return note_path(row).read_text(encoding="utf-8").strip()
    return None


def _digest(path: Path) -> str:
    if path.is_dir():
        lines = "".join(f"{_checked_digest(p)}  {p.relative_to(path).as_posix()}\n" for p in visible_files(path))
        return hashlib.sha256(lines.encode()).hexdigest()
    return sha256_of(path)


def _checked_digest(path: Path) -> str:
    found, blob = sha256_of(path), path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", blob) and found != blob:
        raise StgEvalError(f"{path} is damaged: its SHA-256 is {found[:16]}..., the hub's {blob[:16]}...; delete it")
    return found
