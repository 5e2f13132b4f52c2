"""What a run still has to make and score, handed to an executor task by task and kept in the store.

Files and rows are all the state there is, so a first run and a resumed one are the same code. A clip whose bytes are
not those that were stored, or that does not decode, is made again, once.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np

from stg_eval.executors import Executor
from stg_eval.executors.loading import Loaded
from stg_eval.executors.worker import Generate, Item, Task
from stg_eval.executors.worker import Score as ScoreTask
from stg_eval.metrics import SetMetric
from stg_eval.metrics.decoding import ClipOutcome
from stg_eval.pipeline.status import Status
from stg_eval.storage.store import Store
from stg_eval.types import Clip, Request, Score, StgEvalError

CHUNK = 32
"""Clips scored in one go. Chunks are cut from the whole list, done or not: a resumed run extracts features in the same
batches as an uninterrupted one, and gets the same bits."""

CHUNKS = 16
"""Chunks that the store is asked about at once."""

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What went wrong; what went right is in the store."""

    missing: dict[str, str] = field(default_factory=dict)
    """Key -> why there is no clip, or none that can be read."""
    problems: list[dict[str, str]] = field(default_factory=list)
    """{key, metric, problem} of metrics that have no value for a clip, by its name; the same after a resumed run."""


class Work:
    """The loop between the store and an executor."""

    def __init__(
        self,
        store: Store,
        loaded: Loaded,
        *,
        applies: Callable[[str, Item], bool] = lambda metric, item: True,
        batches: Mapping[str, Sequence[Request]] | None = None,
    ) -> None:
        """`batches`: key -> the batch in which its clip is made, for clips of the store."""
        self._store, self._loaded, self._applies = store, loaded, applies
        self._batches = batches or {}
        self._again: set[str] = set()
        self._tried: set[str] = set()
        self._outcome = Outcome()

    def do(self, executor: Executor, generate: Iterable[Generate], items: Sequence[Item], status: Status) -> Outcome:
        """Do the tasks of `generate`, and score every item with every metric that applies to it and has no value in the
        store yet. Items of the store need no path: it is looked up when they are scored.

        Raises StgEvalError for what stops the whole run; whatever was done by then, or on a signal, is kept.
        """
        ready: deque[Task] = deque(generate)
        chunks = [items[i : i + CHUNK] for i in range(0, len(items), CHUNK)]
        chunk_of = {item.key: i for i, chunk in enumerate(chunks) for item in chunk}
        todo = [0] * len(chunks)
        """Clips to make and to score, of each chunk."""
        problems: list[dict[tuple[str, str], str]] = [{} for _ in chunks]
        to_make = [key for task in ready if isinstance(task, Generate) for key in task.keys]
        for key in to_make:
            todo[chunk_of[key]] += 1

        def score(*some: int) -> None:
            """Put up what is to be scored of chunks whose clips are all made, or close them."""
            known = self._known([item.key for i in some for item in chunks[i]])
            for i in some:
                tasks = self._scoring(chunks[i], known)
                todo[i] = sum(len(task.items) for task in tasks)
                ready.extend(tasks)
                if not tasks:
                    problems[i] |= self._undefined(chunks[i], known)
                    status.scored(len(chunks[i]))

        status.start(to_make=len(to_make), to_score=len(items))
        there = [i for i, waiting in enumerate(todo) if not waiting]
        for start in range(0, len(there), CHUNKS):
            score(*there[start : start + CHUNKS])
        with status.stopping():
            for task, result in executor.run(ready):
                if isinstance(task, Generate):
                    self._keep(task, result)  # type: ignore[arg-type]
                    status.made(sum(key not in self._again for key in task.keys))
                    done = [chunk_of[key] for key in task.keys]
                elif isinstance(task, ScoreTask):
                    i = chunk_of[task.items[0].key]
                    again = self._keep_scores(task, result, problems[i])  # type: ignore[arg-type]
                    ready.extendleft(again)
                    todo[i] += len(again)
                    done = [i] * len(task.items)
                for i in done:
                    todo[i] -= 1
                    if not todo[i]:
                        score(i)
                if status.stopped:
                    ready.clear()
        self._outcome.problems = [
            {"key": item.key, "metric": name, "problem": found[item.key, name]}
            for chunk, found in zip(chunks, problems, strict=True)
            for item in chunk
            for name in self._loaded
            if (item.key, name) in found
        ]
        return self._outcome

    def _keep(self, task: Generate, made: Sequence[Clip | StgEvalError | None]) -> None:
        clips = []
        for request, clip in zip(task.requests, made, strict=True):
            if isinstance(clip, Clip):
                clips.append((request, clip))
            elif clip is not None:
                self._outcome.missing[request.key] = str(clip)
        self._store.add_clips(clips)

    def _known(self, keys: Sequence[str]) -> dict[str, dict[str, float]]:
        """Map metric -> key -> its score in the store, nan where it is not defined; 0 where there are features."""
        return {
            name: dict.fromkeys(self._store.with_features(keys, metric.extractor.signature), 0.0)
            if isinstance(metric, SetMetric)
            else self._store.scores(keys, metric.signature)
            for name, metric in self._loaded.items()
        }

    def _scoring(self, chunk: Sequence[Item], known: Mapping[str, Mapping[str, float]]) -> list[ScoreTask]:
        """Return groups of items that lack the same metrics: what has nothing missing is not even looked for."""

        def lacking(item: Item) -> tuple[str, ...]:
            return tuple(n for n in self._loaded if item.key not in known[n] and self._applies(n, item))

        untried = (i for i in chunk if i.key not in self._tried and i.key not in self._outcome.missing)
        there = self._locate([item for item in untried if lacking(item)])
        self._tried.update(item.key for item in there)
        groups = groupby(sorted(there, key=lacking), key=lacking)
        return [ScoreTask(tuple(group), names) for names, group in groups]

    def _locate(self, items: Sequence[Item]) -> list[Item]:
        """Return those items that are there; of clips in the store with the digest that their bytes should have."""
        stored = self._store.clips([item.key for item in items if item.key in self._batches])
        return [
            replace(item, path=self._store.path / stored[item.key].file, sha256=stored[item.key].sha256)
            if item.key in stored
            else item
            for item in items
            if item.key in stored or item.key not in self._batches
        ]

    def _keep_scores(
        self, task: ScoreTask, outcomes: Sequence[ClipOutcome], problems: dict[tuple[str, str], str]
    ) -> list[Generate]:
        """Record a group's scores; returns what makes those clips again that turned out to be damaged."""
        scores: list[Score] = []
        features: dict[tuple[str, str], np.ndarray] = {}
        again: list[Generate] = []
        for item, outcome in zip(task.items, outcomes, strict=True):
            if outcome.error and item.key in self._batches and item.key not in self._again:
                log.warning("%s; it is made again", outcome.error)
                self._again.add(item.key)
                self._tried.remove(item.key)
                self._store.set_aside([item.key])
                batch = tuple(self._batches[item.key])
                again.append(Generate(batch, frozenset(r.key for r in batch if r.key != item.key)))
                continue
            if outcome.error:
                self._outcome.missing[item.key] = outcome.error
                continue
            for name in task.metrics:
                metric = self._loaded[name]
                known_as = metric.extractor.signature if isinstance(metric, SetMetric) else name
                if known_as in outcome.values:
                    scores.append(Score(key=item.key, metric=metric.signature, value=outcome.values[name]))
                if problem := outcome.problems.get(known_as):
                    problems[item.key, name] = problem
            features |= {(item.key, signature): vector for signature, vector in outcome.features.items()}
        self._store.add_results(scores, features)
        return again

    def _undefined(self, chunk: Sequence[Item], known: Mapping[str, Mapping[str, float]]) -> dict[tuple[str, str], str]:
        """Map (key, metric) -> why, for scores that are nan. The store has them, whichever run found them."""
        return {
            (item.key, name): "not defined for this clip"
            for name, values in known.items()
            for item in chunk
            if math.isnan(values.get(item.key, 0.0)) and self._applies(name, item)
        }
