"""Tasks are done in this process, one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from stg_eval.executors import Executor
from stg_eval.executors.loading import Loaded
from stg_eval.executors.worker import Result, Setup, Task, Worker


class Local:
    """See `Executor`."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def run(self, ready: deque[Task]) -> Iterator[tuple[Task, Result]]:
        while ready:
            task = ready.popleft()
            yield task, self._worker.do(task)


@contextmanager
def start(setup: Setup, loaded: Loaded) -> Iterator[Executor]:
    yield Local(Worker(setup, loaded))
