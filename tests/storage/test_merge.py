"""Stores that were filled apart become one, and a store tells which of its clips are not what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stg_eval.storage.merge import merge
from stg_eval.storage.store import Store
from stg_eval.types import Case, Clip, Guidance, Request, Score, StgEvalError


def request(seed: int) -> Request:
    size = {"height": 16, "width": 16, "num_frames": 8, "fps": 8.0, "num_inference_steps": 4}
    case, guidance = Case(id="a", label=1), Guidance(cfg_scale=2)
    how = {"dtype": "float32", "encoding": "vp9-lossless"}
    return Request(model="tiny", weights="embedded", guidance=guidance, case=case, seed=seed, **size, **how)


def fill(path: Path, clips: dict[int, bytes], value: float = 1.0) -> None:
    """A store with clips (seed -> bytes), each with a score and a feature, and the feature of a real clip."""
    with Store(path) as store:
        for seed, data in clips.items():
            one = request(seed)
            file = store.clip_file(one)
            file.write_bytes(data)
            size = {name: getattr(one, name) for name in ("num_frames", "height", "width", "fps", "encoding")}
            digest = hashlib.sha256(data).hexdigest()
            name = str(file.relative_to(path))
            store.add_clips([(one, Clip(key=one.key, file=name, sha256=digest, seconds=0.1, **size))])
            scores = [Score(key=one.key, metric="m", value=value), Score(key=one.key, metric="n", value=float("nan"))]
            store.add_results(scores, {(one.key, "x"): np.full(3, seed), ("reference/d/0", "x"): np.ones(3)})


def test_merged_shares_hold_what_each_had(tmp_path: Path) -> None:
    fill(tmp_path / "one", {0: b"zero", 1: b"one"})
    fill(tmp_path / "two", {1: b"one", 2: b"two"})
    with Store(tmp_path / "both") as store:
        assert merge(store, tmp_path / "one").clips == 2
        second = merge(store, tmp_path / "two")
        assert (second.clips, second.there, second.damaged) == (1, 1, [])
        keys = [request(seed).key for seed in range(3)]
        clips = store.clips(keys)
        assert [(store.path / clips[key].file).read_bytes() for key in keys] == [b"zero", b"one", b"two"]
        assert store.scores(keys, "m") == dict.fromkeys(keys, 1.0)
        assert len(store.scores(keys, "n")) == 3
        assert store.with_features([*keys, "reference/d/0"], "x") == {*keys, "reference/d/0"}
        again = merge(store, tmp_path / "two")
        assert (again.clips, again.there) == (0, 2)


@pytest.mark.parametrize(
    ("other", "what"), [({1: b"another"}, "clips"), ({1: b"one"}, "scores")], ids=["other bytes", "other score"]
)
def test_stores_that_differ_under_one_key_are_refused_by_key_and_stay_as_they_were(
    tmp_path: Path, other: dict[int, bytes], what: str
) -> None:
    fill(tmp_path / "one", {0: b"zero", 1: b"one"})
    fill(tmp_path / "two", {**other, 2: b"two"}, value=2.0)
    with Store(tmp_path / "one") as store:
        with pytest.raises(StgEvalError, match=f"different {what} under one key: {request(1).key}"):
            merge(store, tmp_path / "two")
        assert set(store.clips([request(seed).key for seed in range(3)])) == {request(0).key, request(1).key}


def test_a_damaged_clip_is_not_merged_and_named(tmp_path: Path) -> None:
    fill(tmp_path / "one", {0: b"zero", 1: b"one"})
    (tmp_path / "one" / "clips" / request(1).key[:2] / f"{request(1).key}.mp4").write_bytes(b"One")
    with Store(tmp_path / "both") as store:
        done = merge(store, tmp_path / "one")
        assert done.clips == 1
        assert request(1).key in done.damaged[0]
        assert store.scores([request(1).key], "m") == {}


def test_verify_names_what_changed_and_the_store_no_longer_counts_it(tmp_path: Path, run_cli: Callable) -> None:
    fill(tmp_path, {0: b"zero", 1: b"one", 2: b"two"})
    assert run_cli("store", "verify", tmp_path).code == 0
    (tmp_path / "clips" / request(1).key[:2] / f"{request(1).key}.mp4").write_bytes(b"onE")
    answer = run_cli("store", "verify", tmp_path)
    assert answer.code == 1
    assert "3 clips, 1 damaged" in answer.out
    assert f"{request(1).key}.mp4: its bytes are not those that were stored" in answer.err
    with Store(tmp_path, write=False) as store:
        assert request(1).key not in store.clips([request(1).key])


def test_verify_of_no_store_says_so_and_makes_none(tmp_path: Path, run_cli: Callable) -> None:
    answer = run_cli("store", "verify", tmp_path / "none")
    assert (answer.code, (tmp_path / "none").exists()) == (2, False)
    assert "no store at" in answer.err
