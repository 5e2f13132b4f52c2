"""The metrics of a run, loaded, and the features of the real clips that they compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stg_eval.executors.worker import Loaded
from stg_eval.metrics import ClipScorer, Extractor, MetricCard, PairScorer, SetMetric, registry
from stg_eval.metrics.decoding import extract_arrays, score_clips
from stg_eval.pipeline.work import CHUNK
from stg_eval.progress import note, progress
from stg_eval.storage.store import Store
from stg_eval.storage.video import Reader
from stg_eval.suites import Reference
from stg_eval.types import StgEvalError

ENGINES = ("ours", "official")
"""Who computes VBench's dimensions: our loops around the official networks, or the vbench package."""


def load_metrics(cards: Sequence[MetricCard], device: str, engine: str = "ours") -> dict[str, ClipScorer | SetMetric]:
    """Map metric name -> its loaded networks. With `engine="official"`, VBench's dimensions run in the vbench package
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


def load_available(
    cards: Sequence[MetricCard], device: str, engine: str = "ours"
) -> tuple[dict[str, ClipScorer | SetMetric | PairScorer], dict[str, str]]:
    """What `load_metrics` loads of the metrics, those of pairs too; and name -> why for each that cannot be loaded: it
    costs itself only, and what counts the clips that it picks. A note says so at once.

    Raises StgEvalError where none can be loaded.
    """
    loaded: dict[str, ClipScorer | SetMetric | PairScorer] = {}
    lost: dict[str, str] = {}
    for card in cards:
        try:
            loaded |= {card.name: registry.load_pair(card, device)} if card.load_pair else {}
            loaded |= load_metrics([card], device, engine) if card.load else {}
        except StgEvalError as error:
            lost[card.name] = str(error)
    if lost and not loaded:
        raise StgEvalError(next(iter(lost.values())))
    for card in cards:
        if card.filter in lost and card.name in loaded:
            del loaded[card.name]
            lost[card.name] = f"it counts the clips that {card.filter} passes, and {lost[card.filter]}"
    for name, why in lost.items():
        note(f"{name} is left out: {why}")
    return loaded, lost


def reference_features(
    reference: Reference, loaded: Loaded, store: Store, reader: Reader = "pyav"
) -> dict[str, np.ndarray]:
    """Map extractor signature -> features float32 [M, D] of the real clips, cached by the reference's content.

    Raises StgEvalError if a real clip cannot be read: a distance to fewer clips than asked for is another number.
    """
    extractors = {m.extractor.signature: m.extractor for m in loaded.values() if isinstance(m, SetMetric)}
    out = {}
    for signature, extractor in extractors.items():
        keys = [f"reference/{reference.digest}/{i}" for i in range(reference.count)]
        found = store.features(keys, signature)
        if len(found) < len(keys):
            _extract_reference(reference, keys, extractor, store, reader)
            found = store.features(keys, signature)
        if len(found) < len(keys):
            raise StgEvalError(f"features of real clips went from {store.path} while it was in use; run it again")
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
    """Return key of a video that no request made: the digest of its bytes."""
    with open(path, "rb") as file:
        return f"file/{hashlib.file_digest(file, 'sha256').hexdigest()}"
