"""A file from a URL, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

from stg_eval.types import StgEvalError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the total, None where the server does not say."""


def download(
    url: str,
    path: Path,
    sha256: str | None,
    *,
    attempts: int = 5,
    progress: Progress = lambda done, total: None,
) -> None:
    """Fetch `url` into `path`.

    What has arrived lies in ``<path>.partial``; a cut connection is taken up there, in this call or in a later one.

    Raises:
        StgEvalError: no connection after `attempts`, full disk, or bytes whose SHA-256 is not `sha256`.
    """
    from http.client import HTTPException

    partial = path.with_name(path.name + ".partial")
    for attempt in range(1, attempts + 1):
        try:
            _continue(url, partial, progress)
            break
        except (OSError, HTTPException) as error:  # URLError, resets and time-outs are OSErrors
            refused = 400 <= getattr(error, "code", 0) < 500
            full = getattr(error, "errno", None) == errno.ENOSPC
            if refused or full or attempt == attempts:
                kept = "; what has arrived is kept, run the same command to continue" if partial.exists() else ""
                raise StgEvalError(f"{url} could not be fetched ({error}){kept}") from error
    accept(partial, path, sha256, url)


def accept(partial: Path, path: Path, sha256: str | None, origin: str) -> None:
    """Give a complete file its name if it is what it should be; else delete it and raise StgEvalError."""
    found = sha256_of(partial)
    if sha256 and found != sha256:
        partial.unlink()
        raise StgEvalError(f"{origin} is not the published file: SHA-256 {found[:16]}..., expected {sha256[:16]}...")
    partial.replace(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _continue(url: str, partial: Path, progress: Progress) -> None:
    import urllib.error
    import urllib.request

    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "stg-eval", "Range": f"bytes={have}-"})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies behind what we have
            return
        raise
    with response, partial.open("ab" if response.status == 206 else "wb") as out:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress(have, total)
        while block := response.read(1 << 20):
            out.write(block)
            have += len(block)
            progress(have, total)
    if total is not None and have < total:
        raise ConnectionError(f"the connection was cut after {have} of {total} bytes")
