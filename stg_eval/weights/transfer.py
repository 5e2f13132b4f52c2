"""Bytes over HTTP until all are here: cut, slow, busy and endless servers end in a whole file or one line.

Two libraries could do this and do not: huggingface_hub's downloader takes any length for the right one where the server
names none, and pooch cannot continue what was cut or bound what never ends.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

from stg_eval.progress import note
from stg_eval.types import StgEvalError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are here and the total, None where the server does not say."""

ATTEMPTS = 5
"""So many attempts in a row may bring less than ENOUGH bytes."""
ENOUGH = 1_000_000
TIMEOUT = 30.0
"""Seconds without a byte, or with fewer than SLOWEST a second, after which a connection counts as cut."""
SLOWEST = 1_000.0
LONGEST_WAIT = 60.0
"""Seconds that a server may ask us to wait before another attempt."""
AGAIN = (408, 429, 500, 502, 503, 504)
"""Status codes of a server that may do better the next time."""


class _Failed(Exception):
    """An attempt that failed; `again` if another may do better, after `seconds` if the server names them."""

    def __init__(self, reason: object, *, again: bool = False, seconds: float | None = None) -> None:
        super().__init__(" ".join(str(reason).split())[:300] or type(reason).__name__)
        self.again, self.seconds = again, seconds


def transfer(url: str, file: Path, *, resume: bool, most: int, progress: Progress) -> None:
    """Bring all bytes of `url` into `file`.

    Args:
        resume: Whether what `file` holds is kept and continued.
        most: Bytes that are taken.

    Raises:
        StgEvalError: no connection, a server that refuses, is too slow, sends a page or more than `most` bytes.
        OSError: a disk that is full or cannot be written.
    """
    failed = 0
    while True:
        before = _length(file)
        try:
            return _attempt(url, file, before if resume else 0, most, progress)
        except _Failed as error:
            failed = 1 if _length(file) - before >= ENOUGH else failed + 1
            if not error.again or failed == ATTEMPTS:
                if not resume:
                    file.unlink(missing_ok=True)
                kept = "; what has arrived is kept, run the same command to continue" if file.exists() else ""
                raise StgEvalError(f"{url} could not be fetched ({error}){kept}") from error
            wait = min(2.0 ** (failed - 1), LONGEST_WAIT) if error.seconds is None else error.seconds
            note(f"{url}: {error}; another attempt in {wait:.0f} s")
            time.sleep(wait)


def _attempt(url: str, file: Path, have: int, most: int, progress: Progress) -> None:
    """One connection. Raises _Failed, OSError of the disk."""
    response = _open(url, have)
    if response is None:
        return
    with response:
        length = _number(", ".join(set(response.headers.get_all("Content-Length", []))))
        if response.status == 206:
            start, total = _range(response.headers.get("Content-Range", ""))
            if total is None and length is not None:
                total = have + length
            if start != have:
                file.unlink(missing_ok=True)
                raise _Failed("the server sent another part of the file than was asked for", again=True)
        else:
            have, total = 0, length
        if (total or 0) > most:
            raise _Failed(f"{total:,} bytes are more than the {most:,} that it may have")
        with file.open("ab" if have else "wb") as out:
            progress(have, total)
            for block in _blocks(response):
                have += len(block)
                if have > most:
                    file.unlink()
                    raise _Failed(f"it does not end after the {most:,} bytes that it may have")
                out.write(block)
                progress(have, total)
    if total is not None and have != total:
        if have > total:
            file.unlink()
        raise _Failed(f"the connection was cut after {have} of {total} bytes", again=True)


def _open(url: str, have: int) -> Any:
    """Return the server's answer to the request for what lies behind the first `have` bytes, None where nothing
    does."""
    import urllib.error
    import urllib.request

    wanted = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers={"User-Agent": "stg-eval", **wanted})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416 and have:  # what we have is whole, or of another file, which its digest tells
            return None
        seconds = _seconds(error.headers.get("Retry-After", ""))
        if error.code not in AGAIN:
            raise _Failed(reason) from error
        if (seconds or 0) > LONGEST_WAIT:
            raise _Failed(f"{reason}, to be asked again in {seconds:,.0f} seconds") from error
        raise _Failed(reason, again=True, seconds=seconds) from error
    except (OSError, HTTPException) as error:  # URLError, resets and time-outs are OSErrors
        raise _Failed(getattr(error, "reason", error), again=True) from error
    except ValueError as error:  # redirected to what is no address
        raise _Failed(error) from error
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise _Failed(f"it is redirected to {response.url}, which is not encrypted")
    if response.headers.get_content_type() == "text/html":
        raise _Failed("the server sends a page instead of the file; a browser shows what it says")
    return response


def _blocks(response: Any) -> Iterator[bytes]:
    """What arrives, as it arrives. Raises _Failed where that takes too long."""
    begin, count = time.monotonic(), 0
    while True:
        try:
            block = response.read1(1 << 20)
        except (OSError, HTTPException) as error:
            raise _Failed(error, again=True) from error
        if not block:
            return
        yield block
        count += len(block)
        if (seconds := time.monotonic() - begin) > TIMEOUT:
            if count < SLOWEST * seconds:
                raise _Failed(f"{count:,} bytes in {seconds:.0f} seconds", again=True)
            begin, count = time.monotonic(), 0


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text.strip()) else None


def _range(text: str) -> tuple[int | None, int | None]:
    """Return first byte and length of the whole, from a Content-Range header."""
    found = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", text.strip())
    return (int(found[1]), _number(found[2])) if found else (None, None)


def _seconds(text: str) -> float | None:
    """Say how long a Retry-After header asks to wait: a number, or the time until a date."""
    if (number := _number(text)) is not None:
        return number
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
