"""One decode a clip: every scorer sees the same frames, every extractor gets the few frames it asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stg_eval.metrics import ClipScorer, Extractor
from stg_eval.storage.video import Reader, UnreadableVideo, VideoInfo, open_video
from stg_eval.types import Case, StgEvalError

BATCH_SIZE = 16
FRAMES_PER_CHUNK = 32


@dataclass(frozen=True)
class ClipOutcome:
    """What became of one clip."""

    path: Path
    info: VideoInfo | None = None
    """With the number of frames that were read; None for a file that could not be opened."""
    values: dict[str, float] = field(default_factory=dict)
    """Scorer's name -> score; nan where the score is not defined for the clip."""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    """Extractor's name -> float32 [D]."""
    problems: dict[str, str] = field(default_factory=dict)
    """Name of a scorer or extractor -> why it gave no (finite) value, in one line."""
    error: str | None = None
    """Path and reason, where the file could not be read whole. Then there are no values and no features."""


Batch = list[tuple[ClipOutcome, dict[str, np.ndarray]]]


def score_clips(
    clips: Iterable[tuple[Path, Case | None]],
    scorers: Mapping[str, ClipScorer],
    extractors: Mapping[str, Extractor],
    batch_size: int = BATCH_SIZE,
    reader: Reader = "pyav",
) -> Iterator[ClipOutcome]:
    """Yield outcomes in the order of `clips`. What fails on one clip is named in its outcome and does not stop the
    rest.

    Frames are handed on in chunks, so memory does not grow with a clip's length. Extractors always get batches of
    exactly `batch_size` (the last one is filled up with repetitions), so a feature does not depend on how many clips
    are scored together.
    """
    batch: Batch = []
    for path, case in clips:
        outcome, frames = _score(path, case, scorers, extractors, reader)
        batch.append((outcome, frames))
        if not extractors or len(batch) == batch_size:
            yield from _finish(batch, extractors, batch_size)
            batch = []
    yield from _finish(batch, extractors, batch_size)


def extract_arrays(
    clips: Iterable[np.ndarray], extractors: Mapping[str, Extractor], fps: float = 8.0, batch_size: int = BATCH_SIZE
) -> dict[str, np.ndarray]:
    """Return features float32 [N, D] of clips in memory, uint8 [T, H, W, 3], by the same batches as `score_clips`."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in extractors}
    batch: list[np.ndarray] = []

    def flush() -> None:
        for name, extractor in extractors.items():
            wanted = [clip[list(extractor.frame_indices(len(clip), fps))] for clip in batch]
            rows[name] += list(_extract(extractor, wanted, batch_size))
        batch.clear()

    for clip in clips:
        batch.append(clip)
        if len(batch) == batch_size:
            flush()
    if batch:
        flush()
    return {name: np.stack(vectors) for name, vectors in rows.items()}


def _score(
    path: Path,
    case: Case | None,
    scorers: Mapping[str, ClipScorer],
    extractors: Mapping[str, Extractor],
    reader: Reader,
) -> tuple[ClipOutcome, dict[str, np.ndarray]]:
    """Decode one clip. Returns its outcome and the frames that each extractor wants."""
    problems: dict[str, str] = {}
    info = None
    try:
        info, chunks = open_video(path, FRAMES_PER_CHUNK, reader)
        num_frames = info.num_frames
        running = dict(scorers)
        for name in list(running):
            _attempt(name, running, problems, "begin", info, case)
        indices = _frame_indices(extractors, num_frames, info.fps, problems)
        wanted = set().union(*indices.values())
        kept: dict[int, np.ndarray] = {}
        seen = 0
        for chunk in chunks:
            for name in list(running):
                _attempt(name, running, problems, "update", chunk)
            kept |= {i: chunk[i - seen].copy() for i in range(seen, seen + len(chunk)) if i in wanted}
            seen += len(chunk)
    except UnreadableVideo as error:
        return ClipOutcome(path, info, error=str(error)), {}
    values = {}
    for name in list(running):
        value = _attempt(name, running, problems, "end")
        if value is None:
            continue
        values[name] = float(value)
        if math.isnan(value):
            problems[name] = f"not defined for this clip ({seen} frame{'s' * (seen != 1)})"
    frames = {}
    for name, which in indices.items():
        if missing := [i for i in which if i not in kept]:
            problems[name] = f"needs frame {missing[0]}, but only {seen} of {num_frames} could be decoded"
        else:
            frames[name] = np.stack([kept[i] for i in which])
    return ClipOutcome(path, replace(info, num_frames=seen), values, {}, problems), frames


def _attempt(name: str, running: dict[str, ClipScorer], problems: dict[str, str], step: str, *arguments: Any) -> Any:
    """Run one step of a scorer; one that raises is done with this clip."""
    try:
        return getattr(running[name], step)(*arguments)
    except Exception as error:  # whatever a network or a plug-in raises must not stop the other scorers
        problems[name] = one_line(error)
        del running[name]
        return None


def _frame_indices(
    extractors: Mapping[str, Extractor], num_frames: int, fps: float, problems: dict[str, str]
) -> dict[str, Sequence[int]]:
    found = {}
    for name, extractor in extractors.items():
        try:
            found[name] = extractor.frame_indices(num_frames, fps)
        except Exception as error:
            problems[name] = one_line(error)
    return found


def _finish(batch: Batch, extractors: Mapping[str, Extractor], batch_size: int) -> Iterator[ClipOutcome]:
    """Extract the batch's features and give its outcomes away."""
    for name, extractor in extractors.items():
        members = [(outcome, frames[name]) for outcome, frames in batch if name in frames]
        try:
            groups = [(members, _extract(extractor, [frames for _, frames in members], batch_size))] if members else []
        except Exception:  # find out whose clip it was
            groups = []
            for outcome, frames in members:
                try:
                    groups.append(([(outcome, frames)], _extract(extractor, [frames], batch_size)))
                except Exception as error:
                    outcome.problems[name] = one_line(error)
        for group, features in groups:
            for (outcome, _), vector in zip(group, features, strict=True):
                outcome.features[name] = vector
    yield from (outcome for outcome, _ in batch)


def _extract(extractor: Extractor, clips: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """Return features of at most `batch_size` clips, computed in a batch of exactly that size."""
    filled = [*clips, *[clips[-1]] * (batch_size - len(clips))]
    features = np.asarray(extractor.extract(filled), np.float32)
    if features.shape[:1] != (batch_size,) or features.ndim != 2:
        raise StgEvalError(f"the extractor returned {list(features.shape)} for {batch_size} clips")
    if not np.isfinite(features[: len(clips)]).all():
        raise StgEvalError("the features hold NaN or infinite values")
    return features[: len(clips)]


def one_line(error: Exception) -> str:
    """Say what an exception says, without line breaks; its kind where it is not one of ours."""
    text = " ".join(str(error).split())
    return text if isinstance(error, StgEvalError) else f"{type(error).__name__}: {text}"
