"""The store keeps its promises: rows only for whole files, batches whole or not at all, one driver."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stg_eval.storage.store import FORMAT, Store
from stg_eval.types import Case, Clip, Guidance, Request, Score, StgEvalError


def make_request(seed: int = 0) -> Request:
    return Request(
        model="tiny",
        weights="embedded",
        guidance=Guidance(cfg_scale=2),
        case=Case(id="a", label=1),
        seed=seed,
        height=16,
        width=16,
        num_frames=8,
        fps=8,
        num_inference_steps=4,
        dtype="float32",
        encoding="vp9-lossless",
    )


def add(store: Store, request: Request, content: bytes = b"video") -> Clip:
    """A clip with its row, as a run adds it."""
    file = store.clip_file(request)
    file.write_bytes(content)
    clip = Clip(
        key=request.key,
        file=str(file.relative_to(store.path)),
        sha256=hashlib.sha256(content).hexdigest(),
        num_frames=8,
        height=16,
        width=16,
        fps=8.0,
        encoding="vp9-lossless",
        seconds=0.5,
    )
    store.add_clips([(request, clip)])
    return clip


def test_a_clip_comes_back_as_it_was_added(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        clip = add(store, make_request())
    with Store(tmp_path, write=False) as store:
        assert store.clips([clip.key, make_request(seed=1).key]) == {clip.key: clip}


@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied"])
def test_a_clip_whose_file_is_not_whole_counts_as_never_made(tmp_path: Path, damage: str) -> None:
    request = make_request()
    with Store(tmp_path) as store:
        add(store, request)
        file = store.clip_file(request)
        file.unlink() if damage == "deleted" else file.write_bytes(b"vid" if damage == "truncated" else b"")
        assert store.clips([request.key]) == {}


def test_a_clip_made_again_keeps_its_scores_only_if_its_bytes_are_the_same(tmp_path: Path) -> None:
    one, other = make_request(), make_request(seed=1)
    with Store(tmp_path) as store:
        for request in (one, other):
            add(store, request, b"first")
            store.add_results([Score(key=request.key, metric="m", value=1.0)], {(request.key, "x"): np.zeros(3)})
        add(store, one, b"again")
        add(store, other, b"first")
        assert list(store.scores([one.key, other.key], "m")) == [other.key]
        assert list(store.features([one.key, other.key], "x")) == [other.key]


def test_a_batch_of_results_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    good = Score(key="a", metric="m", value=1.0)
    with Store(tmp_path) as store:
        with pytest.raises(AttributeError):
            store.add_results([good, None], {})  # type: ignore[list-item]
        assert store.scores(["a"], "m") == {}
        store.add_results([good], {("a", "x"): np.arange(3.0)})
        assert store.scores(["a"], "m") == {"a": 1.0}
        np.testing.assert_array_equal(store.features(["a"], "x")["a"], np.arange(3, dtype=np.float32))


def test_nan_scores_survive(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.add_results([Score(key="a", metric="m", value=float("nan"))], {})
        assert np.isnan(store.scores(["a"], "m")["a"])


def test_more_keys_than_sqlite_takes_at_once(tmp_path: Path) -> None:
    keys = [f"k{i}" for i in range(1700)]
    with Store(tmp_path) as store:
        store.add_results([Score(key=k, metric="m", value=float(i)) for i, k in enumerate(keys)], {})
        assert store.scores(keys, "m") == {k: float(i) for i, k in enumerate(keys)}


def _open_store(path: Path, out: multiprocessing.Queue) -> None:
    try:
        with Store(path):
            out.put("opened")
    except StgEvalError as error:
        out.put(str(error))


def test_a_second_driver_is_told_who_holds_the_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue = context.Queue()
    with Store(tmp_path):
        child = context.Process(target=_open_store, args=(tmp_path, out))
        child.start()
        message = out.get(timeout=60)
        child.join()
    assert "in use by process" in message
    with Store(tmp_path):
        pass


def test_a_reader_needs_no_lock(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        clip = add(store, make_request())
        with Store(tmp_path, write=False) as reader:
            assert reader.clips([clip.key]) == {clip.key: clip}


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")
    with pytest.raises(StgEvalError, match="newer stg-eval"):
        Store(tmp_path)


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"not a database" * 1000)
    with pytest.raises(StgEvalError, match="damaged"):
        Store(tmp_path)


READS = {
    "clips": lambda store, key: store.clips([key]),
    "scores": lambda store, key: store.scores([key], "m"),
    "features": lambda store, key: store.features([key], "x"),
}


@pytest.mark.parametrize("read", READS)
def test_a_store_with_overwritten_pages_is_named_when_it_is_read(tmp_path: Path, read: str) -> None:
    with Store(tmp_path) as store:
        key = add(store, make_request()).key
        store.add_results([Score(key=key, metric="m", value=1.0)], {(key, "x"): np.zeros(3)})
    file = tmp_path / "store.sqlite"
    data = bytearray(file.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    file.write_bytes(data[:page] + b"\xff" * (len(data) - page))
    with Store(tmp_path, write=False) as store, pytest.raises(StgEvalError, match=r"store\.sqlite is damaged"):
        READS[read](store, key)


def test_a_store_that_cannot_be_written_says_so() -> None:
    with pytest.raises(StgEvalError, match="--store"):
        Store(Path("/proc/store"))


def test_a_path_that_holds_the_word_full_is_no_full_disk() -> None:
    with pytest.raises(StgEvalError, match="cannot write to"):
        Store(Path("/proc/full/store"))


def test_reading_a_store_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(StgEvalError, match="no store at"):
        Store(tmp_path / "none", write=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("what", ["removed", "replaced"])
def test_a_database_that_goes_while_it_is_in_use_is_noticed_before_anything_is_lost(tmp_path: Path, what: str) -> None:
    with Store(tmp_path) as store:
        add(store, make_request())
        (tmp_path / "store.sqlite").unlink()
        if what == "replaced":
            (tmp_path / "store.sqlite").touch()
        with pytest.raises(StgEvalError, match="removed or replaced while it was in use"):
            store.add_results([Score(key="a", metric="m", value=1.0)], {})


DIES = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from stg_eval.storage.store import Store
from stg_eval.types import Score
path, step, limit = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with Store(path) as store:
    if step:
        left = step
        def count(statement):
            global left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        store._db.set_trace_callback(count)
    if limit:  # the kernel ends the process in the middle of the write that goes past the limit
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    scores = [Score(key=f"k{i}", metric="m", value=float(i)) for i in range(40)]
    features = {(f"k{i}", "x"): np.full(64, i, np.float32) for i in range(40)}
    store.add_results(scores, features)
"""


def _write_and_die(path: Path, step: int = 0, limit: int = 0) -> int:
    arguments = [sys.executable, "-c", DIES, str(path), str(step), str(limit)]
    return subprocess.run(arguments, check=False, timeout=100).returncode


def _dump(path: Path) -> list[str]:
    with sqlite3.connect(path / "store.sqlite") as db:
        return list(db.iterdump())


def test_killed_at_any_step_of_add_results_or_inside_its_commit_a_store_holds_all_or_nothing(tmp_path: Path) -> None:
    assert _write_and_die(tmp_path / "whole") == 0
    whole, empty = _dump(tmp_path / "whole"), tmp_path / "empty"
    Store(empty).close()
    killed = tmp_path / "killed"
    deaths = set()
    for step, limit in [(1, 0), (2, 0), (30, 0), (82, 0), (0, 4000), (0, 12000), (0, 16500), (0, 24000)]:
        code = _write_and_die(killed, step, limit)
        deaths.add(code)
        assert code == 0 or _dump(killed) == _dump(empty), (step, limit)
    assert deaths >= {-signal.SIGKILL, -signal.SIGXFSZ}
    assert _write_and_die(killed) == 0
    assert _dump(killed) == whole


def test_the_key_depends_on_what_the_model_sees_and_nothing_else() -> None:
    request = make_request()
    same = Request(**_fields(request, case=Case(id="b", label=1, tags=("t",))))
    assert same.key == request.key
    for change in ({"seed": 5}, {"fps": 9.0}, {"case": Case(id="a", label=2)}, {"guidance": Guidance(cfg_scale=3)}):
        assert Request(**_fields(request, **change)).key != request.key


def test_guidances_share_the_noise_of_a_case_and_seed() -> None:
    request = make_request()
    assert Request(**_fields(request, guidance=Guidance(cfg_scale=7))).noise_seed == request.noise_seed
    assert make_request(seed=1).noise_seed != request.noise_seed
    assert Request(**_fields(request, case=Case(id="a", label=3))).noise_seed != request.noise_seed


def _fields(request: Request, **changes: object) -> dict:
    return {name: getattr(request, name) for name in Request.__dataclass_fields__} | changes


def test_a_killed_writer_s_leftovers_go_at_the_next_start(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        clip = store.clip_file(make_request())
    clip.touch()
    for name in (".0123abcd.partial", ".mine.partial"):
        clip.with_name(name).touch()
    Store(tmp_path, alone=False).close()
    assert len(list(clip.parent.iterdir())) == 3, "another's writer may be at work"
    Store(tmp_path).close()
    assert sorted(path.name for path in clip.parent.iterdir()) == [".mine.partial", clip.name]
