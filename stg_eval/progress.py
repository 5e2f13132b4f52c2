"""Progress of long work on stderr: a bar with an ETA on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol

PLAIN_INTERVAL = 10.0
"""Seconds between plain lines: a log file should stay readable."""


@cache
def note(line: str) -> None:
    """Say something on stderr that does not stop the work, once a process however often it is found."""
    print(f"note: {line}", file=sys.stderr, flush=True)


class Advance(Protocol):
    def __call__(self, done: int = 1) -> None: ...


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Show how far `total` things are: `with progress("Generating", 192) as advance: ... advance(16)`."""
    if total == 0:
        yield lambda done=1: None
    elif sys.stderr.isatty():
        yield from _bar(label, total)
    else:
        yield from _lines(label, total)


def _bar(label: str, total: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done=1: bar.advance(task, done)


def _lines(label: str, total: int) -> Iterator[Advance]:
    start = last = time.monotonic()
    count = 0

    def advance(done: int = 1) -> None:
        nonlocal count, last
        count += done
        now = time.monotonic()
        if count >= total or now - last >= PLAIN_INTERVAL:
            last = now
            left = (now - start) * (total - count) / max(count, 1)
            end = f"{now - start:.0f} s" if count >= total else f"about {left:.0f} s left"
            print(f"{label}: {count}/{total}, {end}", file=sys.stderr, flush=True)

    yield advance
