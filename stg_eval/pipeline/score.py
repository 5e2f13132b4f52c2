"""The features of the real clips that metrics compare with, and the key of a video that no request made."""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path

import numpy as np

from stg_eval.executors import Executor
from stg_eval.executors.loading import Loaded
from stg_eval.executors.worker import Extract, Task
from stg_eval.metrics import SetMetric
from stg_eval.pipeline.work import CHUNK
from stg_eval.progress import progress
from stg_eval.storage.store import Store
from stg_eval.suites import Reference
from stg_eval.types import StgEvalError


def reference_features(reference: Reference, loaded: Loaded, store: Store, executor: Executor) -> dict[str, np.ndarray]:
    """Give the features float32 [M, D] of the real clips by the signature of what extracts them, cached by the
    reference's content: chunk by chunk into the store, as clips are scored.

    Raises StgEvalError if a real clip cannot be read: a distance to fewer clips than asked for is another number.
    """
    names = {m.extractor.signature: name for name, m in loaded.items() if isinstance(m, SetMetric)}
    keys = [f"reference/{reference.digest}/{i}" for i in range(reference.count)]
    out = {}
    for signature, name in names.items():
        if len(store.with_features(keys, signature)) < len(keys):
            _extract(reference, keys, signature, name, store, executor)
        found = store.features(keys, signature)
        if len(found) < len(keys):
            raise StgEvalError(f"features of real clips went from {store.path} while it was in use; run it again")
        out[signature] = np.stack([found[key] for key in keys])
    return out


def _extract(
    reference: Reference, keys: list[str], signature: str, name: str, store: Store, executor: Executor
) -> None:
    ready: deque[Task] = deque()
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        if len(store.with_features(chunk, signature)) < len(chunk):
            ready.append(Extract(reference, name, start, start + len(chunk)))
    with progress(f"Real clips of {reference.name}", len(keys)) as advance:
        advance(len(keys) - sum(task.stop - task.start for task in ready if isinstance(task, Extract)))
        for task, vectors in executor.run(ready):
            assert isinstance(task, Extract)
            chunk = keys[task.start : task.stop]
            store.add_results([], {(k, signature): v for k, v in zip(chunk, vectors, strict=True)})  # type: ignore[misc]
            advance(len(chunk))


def file_key(path: Path) -> str:
    """Return key of a video that no request made: the digest of its bytes."""
    with open(path, "rb") as file:
        return f"file/{hashlib.file_digest(file, 'sha256').hexdigest()}"
