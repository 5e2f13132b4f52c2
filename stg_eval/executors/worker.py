"""A worker does tasks: it holds one loaded model and one set of metrics, whatever executor it works for."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stg_eval import generators
from stg_eval.datasets.dataset import Reference
from stg_eval.executors.loading import Loaded
from stg_eval.generators import Generator, ModelCard
from stg_eval.metrics import ClipScorer, Extractor, SetMetric
from stg_eval.metrics.decoding import ClipOutcome, extract_arrays, score_clips
from stg_eval.storage.store import clip_name, damage
from stg_eval.storage.video import Reader, write_video
from stg_eval.types import Case, Clip, Request, StgEvalError

IN_STORE = Path()

TRIES = 3
"""How often a request may fail on its own before it is set aside."""

log = logging.getLogger(__name__)


class SetAside(StgEvalError):
    """One request failed again and again; the run goes on without it."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know before its first task."""

    root: Path
    """The store's folder, which all workers reach under this path."""
    device: str
    reader: Reader
    card: ModelCard | None = None
    """The model with the run's weights and dtype; None where nothing is generated."""
    metrics: tuple[str, ...] = ()
    """Names, for a worker that loads them itself."""
    engine: str = "ours"
    workers: int | None = None
    """How many; None takes all there is room for."""


@dataclass(frozen=True, slots=True)
class Item:
    """A clip to score."""

    key: str
    path: Path
    """Of a clip in the store: IN_STORE, until it is to be scored."""
    case: Case | None
    sha256: str | None = None
    """Digest of its bytes when they were stored; None for a file whose bytes are its key."""


@dataclass(frozen=True)
class Generate:
    """Make one batch of clips. Its result: for each request its Clip, or an error in its place."""

    requests: tuple[Request, ...]
    along: frozenset[str] = frozenset()
    """Keys of requests that are only made along and not kept: the last bits of a clip may hang on its batch, so a clip
    that was lost comes back in the company in which it was first made. They have None in the result."""

    @property
    def keys(self) -> list[str]:
        """Of the clips that are kept."""
        return [request.key for request in self.requests if request.key not in self.along]


@dataclass(frozen=True)
class Score:
    """Score a group of clips with some of the metrics. Its result: a ClipOutcome for each."""

    items: tuple[Item, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True)
class Extract:
    """Take features of clips `start` to `stop` of a reference. Its result: float32 [D] of each."""

    reference: Reference
    metric: str
    start: int
    stop: int


Task = Generate | Score | Extract
Result = Sequence[Clip | StgEvalError | None] | Sequence[ClipOutcome] | Sequence[np.ndarray]


def halves(task: Generate | Score) -> list[Generate | Score]:
    """Cut a task in two; give nothing for one that cannot be cut."""
    if isinstance(task, Score):
        middle = len(task.items) // 2
        return [replace(task, items=part) for part in (task.items[:middle], task.items[middle:])] if middle else []
    middle = len(task.requests) // 2
    parts = [replace(task, requests=part) for part in (task.requests[:middle], task.requests[middle:])]
    return [part for part in parts if part.keys] if middle else []


def given_up(task: Generate | Score, why: str) -> Result:
    """Give the result of a task that came down to one clip and cannot be done."""
    if isinstance(task, Generate):
        return [SetAside(f"set aside: {why}")]
    return [ClipOutcome(item.path, error=f"{item.path}: set aside: {why}") for item in task.items]


class Worker:
    """Does tasks, one after the other."""

    def __init__(self, setup: Setup, loaded: Loaded, generator: Generator | None = None) -> None:
        """`generator`: a model that is in memory already; else the setup's is loaded."""
        self._setup, self._loaded = setup, loaded
        self._generator = generator
        self._fits: int | None = None

    def do(self, task: Task) -> Result:
        """Raises StgEvalError for what would meet every task: weights that are missing, a disk that is full."""
        if isinstance(task, Generate):
            return self._generate(task)
        return self._score(task) if isinstance(task, Score) else self._extract(task)

    def _generate(self, task: Generate) -> list[Clip | StgEvalError | None]:
        """The model is loaded for the first batch, so a run that finds everything in the store loads nothing."""
        requests = task.requests
        if self._generator is None:
            card = self._setup.card
            assert card is not None, "a setup without a model generates nothing"
            self._generator = generators.get(card.name).load(
                device=self._setup.device,
                dtype=card.dtype,
                weights=card.weights,
                settings=dict(requests[0].settings),
            )
        start = time.perf_counter()
        step = self._fits or len(requests)
        made = [m for i in range(0, len(requests), step) for m in self._attempt(requests[i : i + step])]
        seconds = (time.perf_counter() - start) / len(requests)
        return [
            None if request.key in task.along else self._keep(request, one, seconds)
            for request, one in zip(requests, made, strict=True)
        ]

    def _attempt(self, batch: tuple[Request, ...]) -> list[np.ndarray | StgEvalError]:
        """Return frames, or what went wrong, for each request. A batch that does not fit in memory is halved until it
        does, and so is one that fails: seeds belong to requests, so the clips stay the same."""
        assert self._generator is not None
        for _ in range(TRIES if len(batch) == 1 else 1):
            try:
                return list(self._generator.generate(batch))
            except StgEvalError:
                raise
            except Exception as error:  # whatever a model raises concerns this batch, until it is down to one clip
                failure, full = " ".join(f"{type(error).__name__}: {error}".split()), _out_of_memory(error)
            if full:
                _free_memory()
                break
        middle = len(batch) // 2
        if full and not middle:
            raise StgEvalError(
                "one clip does not fit in memory; make it smaller: --set height=…, --set width=… or --set num_frames=…"
            )
        if not middle:
            return [SetAside(f"set aside: the model failed on it {TRIES} times ({failure})")]
        if full:
            self._fits = max(middle, len(batch) - middle)
            log.warning("out of memory: batches of %d instead of %d from here on, seeds stay", self._fits, len(batch))
        else:
            log.warning("a batch of %d failed (%s); trying its halves", len(batch), failure)
        return [*self._attempt(batch[:middle]), *self._attempt(batch[middle:])]

    def _keep(self, request: Request, frames: np.ndarray | StgEvalError, seconds: float) -> Clip | StgEvalError:
        """Write the file whole, under the name that its request gives it; doing so twice is as good as once."""
        if isinstance(frames, StgEvalError):
            return frames
        name = clip_name(request.key)
        file = self._setup.root / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StgEvalError(f"cannot write {file} ({error.strerror})") from error
        write_video(file, frames, request.fps, request.encoding)
        return Clip(
            key=request.key,
            file=name,
            sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
            num_frames=frames.shape[0],
            height=frames.shape[1],
            width=frames.shape[2],
            fps=request.fps,
            encoding=request.encoding,
            seconds=seconds,
        )

    def _score(self, task: Score) -> list[ClipOutcome]:
        scorers: dict[str, ClipScorer] = {}
        extractors: dict[str, Extractor] = {}
        for name in task.metrics:
            metric = self._loaded[name]
            if isinstance(metric, SetMetric):
                extractors[metric.extractor.signature] = metric.extractor
            else:
                scorers[name] = metric
        changed = {item.key: found for item in task.items if item.sha256 and (found := damage(item.path, item.sha256))}
        whole = [(item.path, item.case) for item in task.items if item.key not in changed]
        outcomes: Iterator[ClipOutcome] = score_clips(whole, scorers, extractors, reader=self._setup.reader)
        return [
            ClipOutcome(item.path, error=f"{item.path}: {changed[item.key]}") if item.key in changed else next(outcomes)
            for item in task.items
        ]

    def _extract(self, task: Extract) -> list[np.ndarray]:
        """Raises StgEvalError if a real clip cannot be read: a distance to fewer clips than asked is another number."""
        metric = self._loaded[task.metric]
        assert isinstance(metric, SetMetric)
        name, extractor = metric.extractor.signature, metric.extractor
        clips = task.reference.clips
        if callable(clips):
            return list(extract_arrays(clips(task.start, task.stop), {name: extractor})[name])
        out = []
        files = [(path, None) for path in clips[task.start : task.stop]]
        for outcome in score_clips(files, {}, {name: extractor}, reader=self._setup.reader):
            problem = outcome.error or outcome.problems.get(name)
            if problem:
                raise StgEvalError(f"a reference clip cannot be used: {problem}; mend or remove it and run again")
            out.append(outcome.features[name])
        return out


def _out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _free_memory() -> None:
    import torch

    torch.cuda.empty_cache()
