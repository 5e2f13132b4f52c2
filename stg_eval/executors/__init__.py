"""Executors decide where a run's tasks are done: each is a module with `start`, and a line in EXECUTORS.

A task makes a batch of clips or scores a group of them. It is idempotent: it reads and writes files that are named by
what determines them, and leaves the database to the driver, which alone writes it.
"""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from stg_eval.executors.loading import Loaded
from stg_eval.executors.worker import Result, Setup, Task
from stg_eval.types import StgEvalError

EXECUTORS: dict[str, str] = {
    "local": "stg_eval.executors.local",
    "ray": "stg_eval.executors.ray",
}
"""Name -> module with start(setup, loaded) -> a context manager that gives an Executor."""


class Executor(Protocol):
    """Something that does tasks. The smallest is `stg_eval.executors.local.Local`."""

    def run(self, ready: deque[Task]) -> Iterator[tuple[Task, Result]]:
        """Do the tasks of `ready`, taken from its left as there is room for them, and give each with its result, in
        the order in which they end. The caller may add tasks while it iterates, or clear what has not begun.

        Raises StgEvalError for what stops the whole run.
        """
        ...


def check(name: str) -> None:
    """Raises StgEvalError for an executor that is not there."""
    if name not in EXECUTORS:
        raise StgEvalError(f"unknown executor {name!r} (known: {', '.join(EXECUTORS)})")


def driver_device(name: str, device: str) -> str:
    """Say where the driver's own copy of the metrics goes: it only asks it for signatures, unless it does the tasks."""
    return device if name == "local" else "cpu"


def start(name: str, setup: Setup, loaded: Loaded) -> AbstractContextManager[Executor]:
    """Return an executor for the tasks of one run. `loaded`: the metrics as the driver has them.

    Raises StgEvalError for an unknown one, and for one that cannot start here.
    """
    check(name)
    module = importlib.import_module(EXECUTORS[name])
    return module.start(setup, loaded)  # type: ignore[no-any-return]
