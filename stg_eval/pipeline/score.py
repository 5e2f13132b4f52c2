"""Clips -> scores and features in the store: each clip is decoded once for everything that is still missing of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np

from stg_eval.metrics import ClipScorer, Extractor, MetricCard, SetMetric, registry
from stg_eval.metrics.scoring import extract_arrays, score_clips
from stg_eval.progress import progress
from stg_eval.storage.store import Store
from stg_eval.storage.video import Reader
from stg_eval.suites import Reference
from stg_eval.types import Case, Score, StgEvalError

CHUNK = 32
"""Clips of one transaction. Chunks are cut from the whole list, done or not: a resumed run extracts features in the
same batches as an uninterrupted one, and gets the same bits."""

ENGINES = ("ours", "official")
"""Who computes VBench's dimensions: our loops around the official networks, or the vbench package."""

Loaded = Mapping[str, ClipScorer | SetMetric]


@dataclass(frozen=True)
class Item:
    """A clip to score."""

    key: str
    path: Path
    case: Case | None


@dataclass
class Outcome:
    """What went wrong while scoring; what went right is in the store."""

    unreadable: dict[str, str] = field(default_factory=dict)
    """Key -> why the file could not be read."""
    problems: list[dict[str, str]] = field(default_factory=list)
    """{key, metric, problem} of metrics that have no value for a clip, by its name; the same after a resumed run."""


def load_metrics(cards: Sequence[MetricCard], device: str, engine: str = "ours") -> dict[str, ClipScorer | SetMetric]:
    """Metric name -> its loaded networks. With `engine="official"`, VBench's dimensions run in the vbench package
    itself (slower; their signatures say so). Raises StgEvalError for missing weights, before any work is done."""
    if engine not in ENGINES:
        raise StgEvalError(f"unknown engine {engine!r} (known: {', '.join(ENGINES)})")
    if engine == "ours":
        return {card.name: registry.load(card, device) for card in cards}
    from stg_eval.metrics.vbench import official

    return {
        card.name: official.load(card.name, device) if card.name in official.LOADERS else registry.load(card, device)
        for card in cards
    }


def _extractor(metric: ClipScorer | SetMetric) -> Extractor | None:
    return metric.extractor if isinstance(metric, SetMetric) else None


def score_items(
    items: Sequence[Item],
    loaded: Loaded,
    store: Store,
    *,
    applies: Callable[[str, Item], bool] = lambda metric, item: True,
    reader: Reader = "pyav",
) -> Outcome:
    """Score every item with every loaded metric that applies to it, skipping what the store has."""
    outcome = Outcome()
    with progress("Scoring", len(items)) as advance:
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            problems: dict[tuple[str, str], str] = {}
            for names, group in _by_missing(chunk, loaded, store, applies):
                _score_group(group, names, loaded, store, reader, outcome.unreadable, problems)
            problems |= _undefined(chunk, loaded, store, applies)
            named = [(item.key, name) for item in chunk for name in loaded]
            outcome.problems += [
                {"key": k, "metric": n, "problem": problems[k, n]} for k, n in named if (k, n) in problems
            ]
            advance(len(chunk))
    return outcome


def _by_missing(
    chunk: Sequence[Item], loaded: Loaded, store: Store, applies: Callable[[str, Item], bool]
) -> list[tuple[tuple[str, ...], list[Item]]]:
    """Groups of items that lack the same metrics: what has nothing missing is not even opened."""
    keys = [item.key for item in chunk]
    done: dict[str, set[str]] = {}
    for name, metric in loaded.items():
        extractor = _extractor(metric)
        done[name] = set(
            store.features(keys, extractor.signature) if extractor else store.scores(keys, metric.signature)
        )

    def lacking(item: Item) -> tuple[str, ...]:
        return tuple(name for name in loaded if item.key not in done[name] and applies(name, item))

    return [(names, list(group)) for names, group in groupby(sorted(chunk, key=lacking), key=lacking) if names]


def _undefined(
    chunk: Sequence[Item], loaded: Loaded, store: Store, applies: Callable[[str, Item], bool]
) -> dict[tuple[str, str], str]:
    """(key, metric) -> why, for scores that are nan. They are kept, so the store tells, whichever run found them."""
    out: dict[tuple[str, str], str] = {}
    for name, metric in loaded.items():
        if _extractor(metric) is None:
            found = store.scores([item.key for item in chunk if applies(name, item)], metric.signature)
            out |= {(key, name): "not defined for this clip" for key, value in found.items() if math.isnan(value)}
    return out


def _score_group(
    items: list[Item],
    names: Sequence[str],
    loaded: Loaded,
    store: Store,
    reader: Reader,
    unreadable: dict[str, str],
    problems: dict[tuple[str, str], str],
) -> None:
    scorers: dict[str, ClipScorer] = {}
    extractors: dict[str, Extractor] = {}
    for name in names:
        metric = loaded[name]
        if isinstance(metric, SetMetric):
            extractors[metric.extractor.signature] = metric.extractor
        else:
            scorers[name] = metric
    scores: list[Score] = []
    features: dict[tuple[str, str], np.ndarray] = {}
    results = score_clips([(item.path, item.case) for item in items], scorers, extractors, reader=reader)
    for item, result in zip(items, results, strict=True):
        if result.error:
            unreadable[item.key] = result.error
            continue
        scores += [Score(key=item.key, metric=scorers[n].signature, value=v) for n, v in result.values.items()]
        features |= {(item.key, name): vector for name, vector in result.features.items()}
        for name in names:
            extractor = _extractor(loaded[name])
            if problem := result.problems.get(extractor.signature if extractor else name):
                problems[item.key, name] = problem
    store.add_results(scores, features)


def reference_features(
    reference: Reference, loaded: Loaded, store: Store, reader: Reader = "pyav"
) -> dict[str, np.ndarray]:
    """Extractor signature -> features float32 [M, D] of the real clips, cached by the reference's content.

    Raises StgEvalError if a real clip cannot be read: a distance to fewer clips than asked for is another number.
    """
    extractors = {e.signature: e for e in map(_extractor, loaded.values()) if e}
    out = {}
    for signature, extractor in extractors.items():
        keys = [f"reference/{reference.digest}/{i}" for i in range(reference.count)]
        found = store.features(keys, signature)
        if len(found) < len(keys):
            _extract_reference(reference, keys, extractor, store, reader)
            found = store.features(keys, signature)
        out[signature] = np.stack([found[key] for key in keys])
    return out


def _extract_reference(
    reference: Reference, keys: Sequence[str], extractor: Extractor, store: Store, reader: Reader
) -> None:
    """Chunk by chunk into the store, as clips are scored: what is there is not extracted again."""
    name = extractor.signature
    with progress(f"Real clips of {reference.name}", len(keys)) as advance:
        for start in range(0, len(keys), CHUNK):
            chunk = keys[start : start + CHUNK]
            if len(store.features(chunk, name)) < len(chunk):
                if callable(reference.clips):
                    arrays = reference.clips(start, start + len(chunk))
                    vectors = list(extract_arrays(arrays, {name: extractor})[name])
                else:
                    vectors = _extract_files(reference.clips[start : start + len(chunk)], extractor, reader)
                store.add_results([], {(key, name): vector for key, vector in zip(chunk, vectors, strict=True)})
            advance(len(chunk))


def _extract_files(paths: Sequence[Path], extractor: Extractor, reader: Reader) -> list[np.ndarray]:
    out = []
    clips = [(path, None) for path in paths]
    for result in score_clips(clips, {}, {extractor.signature: extractor}, reader=reader):
        problem = result.error or result.problems.get(extractor.signature)
        if problem:
            raise StgEvalError(f"a reference clip cannot be used: {problem}; mend or remove it and run again")
        out.append(result.features[extractor.signature])
    return out


def file_key(path: Path) -> str:
    """Key of a video that no request made: the digest of its bytes."""
    with open(path, "rb") as file:
        return f"file/{hashlib.file_digest(file, 'sha256').hexdigest()}"
