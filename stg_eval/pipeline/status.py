"""How far a run is: bars on stderr for who waits, a small file in the run's folder for `stg-eval show`."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from stg_eval.progress import Advance, progress
from stg_eval.storage import atomic

FILE = "progress.json"
INTERVAL = 2.0
"""Seconds between two writings of the file."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Status:
    """Counts what is made and scored. Use as a context manager; the file goes when the run ends well."""

    def __init__(self, output: Path | None) -> None:
        self._file = output / FILE if output else None
        self._stack = ExitStack()
        self._counts = {"to_make": 0, "made": 0, "to_score": 0, "scored": 0}
        self._bar: Advance | None = None
        self._begun = time.monotonic()
        self._written = -INTERVAL
        self.stopped: int | None = None
        """The signal that asked to stop."""

    def __enter__(self) -> Status:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        if self._file and kind is None:
            self._file.unlink(missing_ok=True)

    def start(self, *, to_make: int, to_score: int) -> None:
        """Say how many clips there are to make, and to score (done or not)."""
        self._counts |= {"to_make": to_make, "to_score": to_score}
        self._begun = time.monotonic()
        if to_make:
            self._bar = self._stack.enter_context(progress("Generating", to_make))
        else:
            self._show_scoring()
        self._write(now=True)

    def made(self, n: int) -> None:
        """Count clips that were made, or given up."""
        if not n:
            return
        self._counts["made"] += n
        assert self._bar is not None
        self._bar(n)
        if self._counts["made"] == self._counts["to_make"]:
            self._stack.close()
            self._show_scoring()
        self._write()

    def scored(self, n: int) -> None:
        """Count clips that have all their scores, or will never have."""
        self._counts["scored"] += n
        if self._counts["made"] == self._counts["to_make"] and self._bar:
            self._bar(n)
        self._write()

    def _show_scoring(self) -> None:
        self._bar = self._stack.enter_context(progress("Scoring", self._counts["to_score"]))
        if self._counts["scored"]:
            self._bar(self._counts["scored"])

    def _write(self, now: bool = False) -> None:
        if self._file is None or (not now and time.monotonic() - self._written < INTERVAL):
            return
        self._written = time.monotonic()
        record = {"pid": os.getpid(), "host": socket.gethostname(), "written": time.time(), **self._counts}
        with suppress(OSError):  # what nobody may look at must not cost the run
            atomic.write(self._file, json.dumps(record | {"seconds": self._written - self._begun}) + "\n")

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Let the first Ctrl-C, SIGTERM or SIGHUP finish the clips in hand: it sets `stopped`, and acts when the block
        ends. The second acts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            self.stopped = number
            restore()
            print("\nstopping when the clips in hand are done; once more to stop at once", file=sys.stderr)

        # Who ignores a signal (nohup, a job in the background) goes on ignoring it.
        before = {n: signal.getsignal(n) for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()
        if self.stopped is not None:
            self._stack.close()
            self._write(now=True)
            signal.raise_signal(self.stopped)


def describe(output: Path) -> str | None:
    """Say how far a run is, how fast, and until when, in one paragraph; None for one that is not under way."""
    try:
        found: dict[str, Any] = json.loads((output / FILE).read_text(encoding="utf-8"))
        making = found["made"] < found["to_make"]
        done, total = (found["made"], found["to_make"]) if making else (found["scored"], found["to_score"])
        rate = done / max(found["seconds"], 1e-9)
        running = found["host"] != socket.gethostname() or _alive(found["pid"])
        lines = [f"made {found['made']} of {found['to_make']} clips, scored {found['scored']} of {found['to_score']}"]
        if running and done:
            end = datetime.fromtimestamp(found["written"] + (total - done) / rate)
            what = "made" if making else "scored"
            lines.append(f"{rate:.3g} clips a second, all {what} about {end:%Y-%m-%d %H:%M:%S}")
        at = datetime.fromtimestamp(found["written"])
        who = f"process {found['pid']} on {found['host']}"
        lines.append(f"{who}, as of {at:%H:%M:%S}" if running else f"stopped ({who}); the same command resumes")
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return "; ".join(lines)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
