"""Scoring resumes: what is in the store is not computed again, and what went wrong is said every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from stg_eval.datasets.dataset import Reference
from stg_eval.executors.loading import Loaded
from stg_eval.executors.local import Local
from stg_eval.executors.worker import Item, Setup, Worker
from stg_eval.metrics import SetMetric, registry
from stg_eval.pipeline import score
from stg_eval.pipeline.status import Status
from stg_eval.pipeline.work import CHUNK, Work
from stg_eval.storage.store import Store
from stg_eval.types import StgEvalError


class MeanColour:
    """The smallest extractor: it wants two frames."""

    signature = "mean-colour"

    def __init__(self) -> None:
        self.batches = 0

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        if num_frames < 2:
            raise StgEvalError("needs two frames")
        return [0, 1]

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        self.batches += 1
        return np.stack([clip.mean((0, 1, 2)) for clip in clips]).astype(np.float32)


def reference(count: int, *, dies_behind: int | None = None) -> Reference:
    def draw(start: int, stop: int) -> np.ndarray:
        if dies_behind is not None and start >= dies_behind:
            raise KeyboardInterrupt
        rng = np.random.default_rng(start)
        return rng.integers(0, 256, (stop - start, 2, 4, 4, 3), dtype=np.uint8)

    return Reference("drawn", "digest", draw, count)


def worker(store: Store, loaded: Loaded) -> Local:
    return Local(Worker(Setup(store.path, "cpu", "pyav"), loaded))


def test_a_reference_that_is_interrupted_goes_on_where_it_stopped_with_the_same_bits(tmp_path: Path) -> None:
    count = 3 * CHUNK + 5
    whole, resumed = MeanColour(), MeanColour()
    with Store(tmp_path / "whole") as store:
        loaded = {"m": SetMetric("m", whole)}
        expected = score.reference_features(reference(count), loaded, store, worker(store, loaded))
    loaded = {"m": SetMetric("m", resumed)}
    with Store(tmp_path / "resumed") as store:
        with pytest.raises(KeyboardInterrupt):
            score.reference_features(reference(count, dies_behind=2 * CHUNK), loaded, store, worker(store, loaded))
        before, resumed.batches = resumed.batches, 0
        found = score.reference_features(reference(count), loaded, store, worker(store, loaded))
    assert before + resumed.batches == whole.batches, "no chunk twice"
    np.testing.assert_array_equal(found["mean-colour"], expected["mean-colour"])


def test_what_has_no_value_is_named_by_clip_and_metric_on_every_run(tmp_path: Path, make_video: Callable) -> None:
    paths = [make_video("a.mp4"), make_video("single.mp4", num_frames=1)]
    items = [Item(score.file_key(path), path, None) for path in paths]
    loaded = {
        "temporal_flickering": registry.load(registry.card("temporal_flickering"), "cpu"),
        "colour": SetMetric("colour", MeanColour()),
    }
    with Store(tmp_path / "store") as store:
        does = worker(store, loaded)
        first, again = (Work(store, loaded).do(does, (), items, Status(None)).problems for _ in range(2))
    assert again == first
    assert [(p["key"], p["metric"]) for p in first] == [
        (items[1].key, "temporal_flickering"),
        (items[1].key, "colour"),
    ]
