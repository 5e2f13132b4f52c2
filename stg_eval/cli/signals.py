"""SIGTERM and SIGHUP stop the work as Ctrl-C does: what is finished is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping() -> Iterator[list[int]]:
    """While the block runs, both signals raise KeyboardInterrupt; the list fills with the numbers that came.

    A signal that is ignored or handled already stays so: under nohup, SIGHUP stops nothing.
    """
    came: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    changed = []
    if threading.current_thread() is threading.main_thread():
        changed = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in changed:
        signal.signal(number, stop)
    try:
        yield came
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)
