"""Experiment trackers: each is a module with `start`, and a line in TRACKERS. What they are told is in `entry`.

A tracker writes through its own client, where that client writes by itself: a folder, a local database, or the server
that its environment variables name. Nothing is sent anywhere that was not asked for: W&B stays offline unless
WANDB_MODE says otherwise.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout

from stg_eval.storage.results import Results
from stg_eval.trackers.entry import entry_of
from stg_eval.trackers.tracker import Config, Tracker
from stg_eval.types import StgEvalError

TRACKERS: Mapping[str, str] = {
    "tensorboard": "stg_eval.trackers.tensorboard",
    "mlflow": "stg_eval.trackers.mlflow",
    "wandb": "stg_eval.trackers.wandb",
    "trackio": "stg_eval.trackers.trackio",
}
"""Name, which is that of the extra too -> module with start(group, name, config, output, resume), a generator that
yields one Tracker. group: what runs are compared in (project, experiment). output: a folder that takes everything, None
for the client's own place. resume: go on with the run of that name if there is one."""


def check(to: str) -> None:
    """Raises StgEvalError for a tracker that is not there."""
    if to not in TRACKERS:
        raise StgEvalError(f"unknown tracker {to!r} (known: {', '.join(TRACKERS)})")


def track(
    results: Results,
    to: str,
    *,
    output: str | None = None,
    samples: int = 4,
    name: str = "",
    step: int | None = None,
) -> str:
    """Write a finished run to a tracker, its first `samples` pairs of clips too; returns where.

    Without `step` every call adds a run, named as the run's folder. With one, of a training, calls of one `name` are
    one run. What the client prints goes to standard error. Raises StgEvalError, in one line, for an unknown tracker,
    one that is not installed, and one that refuses.
    """
    check(to)
    entry = entry_of(results, samples)
    with _begun(to, results, name, entry.config, output, resume=step is not None) as tracker:
        tracker.log(entry, step or 0)
        return tracker.where


def begin(results: Results, to: str, *, output: str | None = None, name: str) -> None:
    """Begin the run that `track` goes on with when it is given steps: what a client does once is done then."""
    check(to)
    with _begun(to, results, name, entry_of(results, 0).config, output, resume=True):
        pass


@contextmanager
def _begun(to: str, results: Results, name: str, config: Config, output: str | None, resume: bool) -> Iterator[Tracker]:
    group = f"{results.run.suite}-{results.run.model}"
    with redirect_stdout(sys.stderr), _explained(to):
        start: Callable[..., Iterator[Tracker]] = importlib.import_module(TRACKERS[to]).start
        with contextmanager(start)(group, name or results.path.resolve().name, config, output, resume) as tracker:
            yield tracker


@contextmanager
def _explained(to: str) -> Iterator[None]:
    """Turn what a client raises into one line: each has errors of its own, and none of them is ours."""
    try:
        yield
    except StgEvalError:
        raise
    except ModuleNotFoundError as error:
        raise StgEvalError(f"{to} needs {error.name}: pip install 'stg-eval[{to}]'") from error
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise StgEvalError(f"{to} refused ({told}); the run itself is as it was") from error
