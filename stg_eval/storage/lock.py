"""One process at a time: a lock on a file, which the system lets go of however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stg_eval.types import StgEvalError


def take(file: Path, otherwise: str, *, wait: bool = False) -> int:
    """Return Hold the lock until the returned handle is closed (`os.close`).

    Raises StgEvalError with the holder's process id and what to do `otherwise`, unless it is to `wait`; OSError as the
    disk does.
    """
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_still(handle, file):
                _sign(handle, file)
                return handle
        except BlockingIOError:
            holder = os.read(handle, 20).decode(errors="replace") or "another process"
            os.close(handle)
            told = f"{file.parent} is in use by process {holder}; wait for it, or {otherwise}"
            raise StgEvalError(told) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@contextmanager
def held(file: Path, otherwise: str, *, wait: bool = False) -> Iterator[None]:
    """Return `take` for the length of a block, after which the file is gone."""
    handle = take(file, otherwise, wait=wait)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def _sign(handle: int, file: Path) -> None:
    """Say who holds the lock; where the disk is too full for a number, the file goes again."""
    try:
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    except OSError:
        file.unlink(missing_ok=True)
        raise


def _is_still(handle: int, file: Path) -> bool:
    """Tell whether the file has not been removed, by the holder before, while this process waited for it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(file))
    except FileNotFoundError:
        return False
