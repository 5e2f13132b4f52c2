"""A run scores the bytes that were stored or makes them again, and misses what is not there, whoever took it away."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from stg_eval import suites
from stg_eval.executors.worker import Extract, Worker
from stg_eval.pipeline.plan import Plan, make_plan
from stg_eval.pipeline.run import run, run_shard
from stg_eval.storage.merge import merge
from stg_eval.storage.results import Results
from stg_eval.storage.store import Store

METRICS = ["accuracy_sprites", "temporal_flickering", "frame_difference_sprites"]


def make(limit: int = 6, metrics: list[str] = METRICS) -> Plan:
    settings = {"num_inference_steps": 2, "batch_size": 4}
    return make_plan(suites.load("demo"), "tiny", metric_names=metrics, limit=limit, settings=settings, allow_few=True)


def results(folder: Path, plan: Plan | None = None) -> Results:
    return run(plan or make(), store_path=folder / "store", output=folder / "run", device="cpu")


def table(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "run" / "scores.csv").read_bytes(), (folder / "run" / "table.json").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    results(folder)
    return folder


def flip(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


@pytest.mark.parametrize("damage", [flip, lambda data: bytes(len(data)), lambda data: data[:100]])
def test_clips_damaged_before_they_are_scored_are_made_again_and_nobody_can_tell(
    tmp_path: Path, whole: Path, damage, caplog: pytest.LogCaptureFixture
) -> None:
    run(make(metrics=["accuracy_sprites"]), store_path=tmp_path / "store", output=tmp_path / "first", device="cpu")
    files = sorted((tmp_path / "store" / "clips").rglob("*.mp4"))
    before = [file.read_bytes() for file in files]
    for file in files[::5]:
        file.write_bytes(damage(file.read_bytes()))
    found = results(tmp_path)
    assert found.run.missing == ()
    assert table(tmp_path) == table(whole)
    assert [file.read_bytes() for file in files] == before
    if damage is flip:
        assert sum("it is made again" in line for line in caplog.messages) == len(files[::5])


def test_a_clip_that_vanishes_while_the_run_goes_on_is_missing_and_the_same_command_makes_it(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Store.add_results
    lost: list[Path] = []

    def add_and_lose(self: Store, scores, features) -> None:
        original(self, scores, features)
        if not lost:
            lost.extend(sorted((self.path / "clips").rglob("*.mp4"))[:2])
            for file in lost:
                file.unlink()

    monkeypatch.setattr(Store, "add_results", add_and_lose)
    found = results(tmp_path)
    assert {m.problem for m in found.run.missing} == {
        "its file went from the store while the run went on; run the same command again"
    }
    assert len(found.run.missing) == 2
    monkeypatch.undo()
    assert results(tmp_path).run.missing == ()
    assert table(tmp_path) == table(whole)


def test_scores_that_vanish_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Store.add_results

    def add_and_lose(self: Store, scores, features) -> None:
        original(self, scores, features)
        with sqlite3.connect(self.path / "store.sqlite") as db:
            db.execute("DELETE FROM scores WHERE metric LIKE 'temporal%'")
            db.execute("DELETE FROM features WHERE key = (SELECT min(key) FROM clips)")

    monkeypatch.setattr(Store, "add_results", add_and_lose)
    lines = [(p.metric, p.problem) for p in results(tmp_path).run.problems]
    again = "it was not recorded; run the same command again"
    assert lines.count(("temporal_flickering", again)) == 12
    assert lines.count(("frame_difference_sprites", again)) == 1


def test_one_poison_request_is_set_aside_and_named_and_the_rest_is_as_ever(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stg_eval.generators.tiny.generator import TinyGenerator

    poison = make().requests["stg"][2].key
    original, tries = TinyGenerator.generate, []

    def generate(self, requests):
        if poison in {r.key for r in requests}:
            tries.append(len(requests))
            raise ZeroDivisionError("poison")
        return original(self, requests)

    monkeypatch.setattr(TinyGenerator, "generate", generate)
    found = results(tmp_path)
    assert [m.problem for m in found.run.missing] == [
        "set aside: the model failed on it 3 times (ZeroDivisionError: poison)"
    ]
    assert tries == [4, 2, 1, 1, 1]
    ours, theirs = (folder.joinpath("run", "scores.csv").read_text().splitlines() for folder in (tmp_path, whole))
    assert sum(a != b for a, b in zip(ours, theirs, strict=True)) == 1
    monkeypatch.undo()
    results(tmp_path)
    assert table(tmp_path) == table(whole)


def test_out_of_memory_halves_the_batch_and_changes_no_result(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    from stg_eval.generators.tiny.generator import TinyGenerator

    original, sizes = TinyGenerator.generate, []

    def generate(self, requests):
        sizes.append(len(requests))
        if len(requests) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, requests)

    monkeypatch.setattr(TinyGenerator, "generate", generate)
    results(tmp_path)
    assert table(tmp_path) == table(whole)
    assert sizes.count(4) == 1, "the size that fits is remembered"
    assert any("out of memory: batches of 2 instead of 4" in line for line in caplog.messages)


def test_a_damaged_clip_is_neither_shown_nor_exported_and_verify_lets_the_same_command_make_it_again(
    tmp_path: Path, whole: Path, run_cli: Callable
) -> None:
    results(tmp_path)
    victim = sorted((tmp_path / "store" / "clips").rglob("*.mp4"))[3]
    before = victim.read_bytes()
    victim.write_bytes(flip(before))
    assert run_cli("report", tmp_path / "run", "--output", tmp_path / "report").code == 0
    assert "its bytes are not those that were stored" in (tmp_path / "report" / "index.html").read_text()
    answer = run_cli("export", "vbench", tmp_path / "run", tmp_path / "videos")
    assert answer.code == 2
    assert f"{victim}: its bytes are not those that were stored" in answer.err
    assert run_cli("store", "verify", tmp_path / "store").code == 1
    assert results(tmp_path).run.missing == ()
    assert victim.read_bytes() == before
    assert table(tmp_path) == table(whole)


@pytest.mark.parametrize("count", [2, 3])
def test_shares_made_apart_and_merged_equal_one_run(tmp_path: Path, whole: Path, count: int) -> None:
    keys: list[str] = []
    for i in range(1, count + 1):
        clips, problems = run_shard(make(), i, count, store_path=tmp_path / f"share{i}", device="cpu")
        assert problems == []
        keys += [str(clips)]
        with Store(tmp_path / "store") as store:
            merge(store, tmp_path / f"share{i}")
    assert sum(map(int, keys)) == 12
    made: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        original = Worker.do
        patch.setattr(Worker, "do", lambda self, task: (made.append(task), original(self, task))[1])
        results(tmp_path)
    assert all(isinstance(task, Extract) for task in made), "real clips alone are left"
    assert table(tmp_path) == table(whole)
