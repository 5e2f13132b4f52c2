"""A file from a URL, whole or not at all, by one process at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stg_eval.progress import note
from stg_eval.types import StgEvalError
from stg_eval.weights.kinds import check_kind
from stg_eval.weights.transfer import Progress, transfer

UNKNOWN_SIZE = 20_000_000_000
"""Bytes that are taken of a file whose size nobody has told."""


def download(
    url: str, path: Path, sha256: str | None, *, size: int = 0, progress: Progress = lambda done, total: None
) -> None:
    """Fetch `url` into `path`, unless another process has done so meanwhile.

    With a digest, a cut download is taken up where it broke off, by later calls too. Without one, nothing tells whether
    what is there belongs to the file, and it is fetched from its start.

    Args:
        sha256: What the file's SHA-256 must be. None: it must have the length that the server says, about the size that
            is expected, and open as what its name says.
        size: Bytes that are expected, roughly; 0 if unknown. No more than a quarter above it are taken.

    Raises:
        StgEvalError: no connection, a server that refuses, is too slow or does not end, or bytes that are not the file.
        OSError: a disk that is full or cannot be written.
    """
    most = size * 5 // 4 + 100_000 if size else UNKNOWN_SIZE
    partial = _beside(path, "partial")
    with only_one(path):
        if path.is_file() and (sha256 is None or sha256_of(path) == sha256):
            return
        begun = partial.exists()
        transfer(url, partial, resume=sha256 is not None, most=most, progress=progress)
        if sha256 and begun and sha256_of(partial) != sha256:  # what had been begun was another file
            partial.unlink()
            transfer(url, partial, resume=True, most=most, progress=progress)
        try:
            check(partial, path.suffix, sha256, url, size)
        except StgEvalError:
            partial.unlink()
            raise
        partial.replace(path)


def check(file: Path, suffix: str, sha256: str | None, origin: str, size: int = 0) -> None:
    """Raises StgEvalError for a complete file that is not what it should be: another digest, or, where none is known,
    less than three quarters of its size, or bytes that do not open as its suffix says."""
    try:
        if sha256 is None:
            if file.stat().st_size < size * 3 // 4:
                raise StgEvalError(f"{file.stat().st_size:,} bytes, expected about {size:,}")
            check_kind(file, suffix)
        elif (found := sha256_of(file)) != sha256:
            raise StgEvalError(f"SHA-256 {found[:16]}..., expected {sha256[:16]}...")
    except StgEvalError as error:
        raise StgEvalError(f"{origin} is not the published file: {error}") from error


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time bring this file; the others wait, and a note says so."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_beside(path, "lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        note(f"another process fetches {path}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: Path) -> str:
    """Return SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _beside(path: Path, what: str) -> Path:
    """Return a name next to the file that is the same in every process, and short however long the file's is."""
    return path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:8]}.{what}")
