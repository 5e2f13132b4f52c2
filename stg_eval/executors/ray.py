"""Tasks are done by Ray actors: one for each GPU, here or in a cluster. `pip install stg-eval[ray]`.

An actor holds one loaded model and one set of metrics. It does one task and has the next one waiting, so what is in
flight is bounded by the number of actors, whatever the length of the run. Clips are written where they are made, to the
store's folder, which all machines see under the same path; the driver alone writes the database.

RAY_ADDRESS says which cluster to join; without it Ray starts on this machine and ends with the run.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from stg_eval.executors import Executor
from stg_eval.executors.loading import Loaded, load_metrics
from stg_eval.executors.worker import (
    TRIES,
    Extract,
    Result,
    Setup,
    Task,
    Worker,
    given_up,
    halves,
)
from stg_eval.metrics import registry
from stg_eval.types import StgEvalError

STORE_BYTES = 256 * 2**20
"""Memory for results on their way; clips do not go through it."""
AHEAD = 2
"""Tasks that an actor has at once: the one that it does, and the next."""

PATIENCE = 5.0
"""Seconds without a result after which the driver looks whether any machine is left."""

log = logging.getLogger(__name__)


class Remote:
    """What runs in an actor: a worker that loads the metrics of the run when it starts."""

    def __init__(self, setup: Setup, folder: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)  # sums depend on it in the last bits
        if os.path.isdir(folder):
            os.chdir(folder)  # paths of images and weights mean what they mean to the driver
        cards = [registry.card(name) for name in setup.metrics]
        self._worker = Worker(setup, load_metrics(cards, setup.device, setup.engine))

    def ready(self) -> None:
        """Return once the actor is there (again)."""

    def do(self, task: Task) -> Result | StgEvalError:
        """What stops the run comes back as a value: Ray would wrap an exception."""
        try:
            return self._worker.do(task)
        except StgEvalError as error:
            return error


@dataclass
class Actor:
    """An actor as the driver sees it."""

    handle: Any
    tasks: dict[Any, Task] = field(default_factory=dict)
    """Reference to a result -> the task in flight."""
    coming: Any = None
    """Reference to `ready`, until a started or restarted actor answers."""


class Ray:
    """See `Executor`."""

    def __init__(self, ray: Any, handles: list[Any]) -> None:
        self._ray = ray
        self._actors = [Actor(handle, coming=handle.ready.remote()) for handle in handles]
        self._deaths: dict[Task, int] = {}

    def run(self, ready: deque[Task]) -> Iterator[tuple[Task, Result]]:
        while ready or any(actor.tasks for actor in self._actors):
            self._hand_out(ready)
            waiting = {ref: actor for actor in self._actors for ref in (*actor.tasks, actor.coming) if ref is not None}
            done, _ = self._ray.wait(list(waiting), num_returns=1, timeout=PATIENCE)
            if not done:
                self._look()
            for ref in done:
                actor = waiting[ref]
                if ref is actor.coming:
                    self._arrive(actor)
                    continue
                task = actor.tasks.pop(ref)
                result = self._result(actor, ref)
                if isinstance(result, StgEvalError):
                    raise result
                if result is not None:
                    yield task, result
                elif (last := self._again(task, ready)) is not None:
                    yield task, last

    def _hand_out(self, ready: deque[Task]) -> None:
        """Give work to the actors that are there, first to those that have least."""
        for level in range(AHEAD):
            for actor in self._actors:
                if ready and actor.coming is None and len(actor.tasks) == level:
                    task = ready.popleft()
                    actor.tasks[actor.handle.do.remote(task)] = task

    def _arrive(self, actor: Actor) -> None:
        try:
            self._ray.get(actor.coming)
            actor.coming = None
        except self._ray.exceptions.RayTaskError as error:  # its constructor failed: so it would for every other
            raise self._cause(error) from error
        except self._ray.exceptions.RayError:
            self._look()
            time.sleep(1)
            actor.coming = actor.handle.ready.remote()

    def _look(self) -> None:
        """Raises StgEvalError when no machine is left that could start a worker again."""
        if not any(node["Alive"] for node in self._ray.nodes()):
            raise StgEvalError("Ray has no machine left; what is finished is kept, the same command resumes")

    def _result(self, actor: Actor, ref: Any) -> Result | StgEvalError | None:
        """Return a task's result; None where its actor died. Ray restarts that one; until it answers it gets no
        work."""
        try:
            found: Result | StgEvalError = self._ray.get(ref)
            return found
        except self._ray.exceptions.RayTaskError as error:
            raise self._cause(error) from error
        except self._ray.exceptions.RayError as error:
            log.warning("a worker ended in the middle of a task (%s); the task goes to another", type(error).__name__)
            if actor.coming is None:
                actor.coming = actor.handle.ready.remote()
            return None

    def _again(self, task: Task, ready: deque[Task]) -> Result | None:
        """Put back a task whose worker died. One that was the death of several is cut, down to the one clip that is set
        aside."""
        self._deaths[task] = self._deaths.get(task, 0) + 1
        if self._deaths[task] < TRIES:
            ready.appendleft(task)
            return None
        if isinstance(task, Extract):
            raise StgEvalError(f"{TRIES} workers ended while they took features of {task.reference.name}")
        if parts := halves(task):
            ready.extendleft(reversed(parts))
            return None
        return given_up(task, f"{TRIES} workers ended in the middle of it")

    def _cause(self, error: Any) -> Exception:
        cause = getattr(error, "cause", error)
        return cause if isinstance(cause, StgEvalError) else error


@contextmanager
def start(setup: Setup, loaded: Loaded) -> Iterator[Executor]:
    """Join the cluster of RAY_ADDRESS, or start Ray here until the run ends. Workers load metrics of their own."""
    try:
        import ray
    except ImportError:
        raise StgEvalError("--executor ray needs Ray; `pip install 'stg-eval[ray]'`") from None
    import torch

    gpu, threads = setup.device.startswith("cuda"), torch.get_num_threads()
    ours = not ray.is_initialized()
    if ours:
        _init(ray, (setup.workers or 1) * threads)
    try:
        there = ray.cluster_resources()
        room = int(there.get("GPU", 0)) if gpu else int(there.get("CPU", 0)) // threads
        count = setup.workers or room
        if not 0 < count <= room:
            what = "GPUs" if gpu else f"workers of {threads} processors (OMP_NUM_THREADS)"
            raise StgEvalError(f"Ray has room for {room} {what}, and {max(count, 1)} are asked for")
        actor: Any = ray.remote(
            num_gpus=1 if gpu else 0,
            num_cpus=0 if gpu else threads,
            max_restarts=-1,  # a worker that dies comes back, on another machine if need be
            max_task_retries=0,  # the driver says how often a task is tried, and where
        )(Remote)
        there_as = replace(setup, device="cuda" if gpu else setup.device)
        handles = [actor.remote(there_as, os.getcwd(), threads) for _ in range(count)]
        try:
            yield Ray(ray, handles)
        finally:
            for handle in handles:
                ray.kill(handle)
    finally:
        if ours:
            ray.shutdown()


def _init(ray: Any, processors: int) -> None:
    """Quietly, and without taking over the signals: how a run stops is its own matter."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {}
    if not os.environ.get("RAY_ADDRESS"):
        cores = max(processors, os.cpu_count() or 1)
        here = {"include_dashboard": False, "num_cpus": cores, "object_store_memory": STORE_BYTES}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(logging_level=logging.WARNING, **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StgEvalError(f"Ray does not start ({' '.join(str(error).split())[:300]})") from error
    for number, handler in handlers.items():
        signal.signal(number, handler)
