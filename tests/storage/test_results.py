"""A run folder: text stays text, damage and full disks are one clear line, nothing half-written passes for whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from stg_eval import suites
from stg_eval.pipeline import estimates
from stg_eval.pipeline.plan import make_plan
from stg_eval.storage import results
from stg_eval.storage.record import RunRecord
from stg_eval.storage.results import Column, DamagedResults, Estimate, Results
from stg_eval.types import StgEvalError

Make = Callable[..., Results]


@pytest.fixture
def make(make_record: Callable[..., RunRecord]) -> Make:
    """A run of two clips of one case, one of them without a score."""

    def run(path: Path, variant: str = "cfg", **text: str) -> Results:
        column = Column(
            name="m", title="M", short="M", higher_is_better=True, scale=1, digits=3, signature="m|v1", note="",
            kind="clip",
        )  # fmt: skip
        nan = float("nan")
        cell = Estimate(
            variant=variant, metric="m", value=0.5, low=nan, high=nan, n=1, baseline=None, difference=nan,
            difference_low=nan, difference_high=nan, p_value=nan,
        )  # fmt: skip
        row = {"variant": variant, "case": "a", "prompt": "", "label": 1, "tags": "", "key": "k", "file": "f"} | text
        scores = pd.DataFrame([row | {"seed": 0, "m": 0.5}, row | {"seed": 1, "m": nan}])
        return Results(path, make_record({variant: "cfg"}, expected=2), (column,), (cell,), scores)

    return run


@pytest.mark.parametrize("text", ["2024", "1e5", "007", "NA", "nan", "true", "", "Überblick"])
def test_text_comes_back_as_text_whatever_it_looks_like(tmp_path: Path, make: Make, text: str) -> None:
    fields = dict.fromkeys(("case", "prompt", "tags", "key", "file"), text)
    results.save(make(tmp_path, variant=text, **fields))
    loaded = results.load(tmp_path)
    assert loaded.scores[[*fields, "variant"]].to_numpy().tolist() == [[text] * 6] * 2
    assert loaded.scores["m"].isna().tolist() == [False, True]
    assert loaded.scores["label"].tolist() == [1, 1]


def test_a_disk_that_fills_up_leaves_the_run_that_was_there(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = results.save(make(tmp_path))
    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "table.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(StgEvalError, match="No space left on device"):
            results.save(make(tmp_path, prompt="another"))
    assert results.load(tmp_path).run == before.run
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "scores.csv", "table.json"]


def test_a_run_killed_at_any_step_of_saving_leaves_the_old_results_or_the_new(
    tmp_path: Path, make: Make, killed_at: Callable[[Callable[[], object], int], bool]
) -> None:
    def prompts(folder: Path) -> set[str]:
        return set(results.load(folder).scores["prompt"])

    results.save(make(tmp_path / "whole", prompt="new"))
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    found = []
    for step in range(1, 100):
        folder = tmp_path / str(step)
        results.save(make(folder, prompt="old"))
        (folder / "notes.txt").write_text("mine")

        def save(folder: Path = folder) -> None:
            with results.holding(folder):
                results.save(make(folder, prompt="new"))

        lived = killed_at(save, step)
        found += prompts(folder)
        with results.holding(folder):
            assert sorted(path.name for path in folder.iterdir()) == [".lock", "notes.txt", *sorted(whole)]
        assert prompts(folder) == {found[-1]}, "put in order, they are what they were"
        save()
        after = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert after == whole | {"notes.txt": b"mine"}
        if lived:
            break
    assert len(found) > 8
    assert found == sorted(found, reverse=True), "old ones, then new ones"
    assert set(found) == {"old", "new"}


def test_results_that_are_replaced_while_they_are_read_are_the_old_or_the_new(tmp_path: Path, make: Make) -> None:
    results.save(make(tmp_path, prompt="0"))
    writer = os.fork()
    if writer == 0:
        for i in range(1, 100):
            results.save(make(tmp_path, prompt=str(i % 10)))
            time.sleep(0.02)
        os._exit(0)
    seen = set()
    while os.waitpid(writer, os.WNOHANG)[0] == 0:
        found = results.load(tmp_path)
        seen |= set(found.scores["prompt"])
        assert found.scores["prompt"].nunique() == 1
    assert len(seen) > 1


def test_only_one_process_at_a_time_writes_to_a_folder(tmp_path: Path) -> None:
    with (
        results.holding(tmp_path),
        pytest.raises(StgEvalError, match=rf"is in use by process {os.getpid()}; wait .* another --output"),
    ):
        results.holding(tmp_path).__enter__()
    with results.holding(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_half_a_table_of_scores_or_changed_numbers_are_noticed(tmp_path: Path, make: Make) -> None:
    results.save(make(tmp_path))
    for name, old, new in (("scores.csv", b"0.5", b"0.6"), ("table.json", b"0.5", b"0.6")):
        text = (tmp_path / name).read_bytes()
        for changed in (text.replace(old, new), text[: text.rindex(b"\n", 0, -1) + 1]):
            (tmp_path / name).write_bytes(changed)
            with pytest.raises(DamagedResults, match=f"{name} is not the file that was written with this run"):
                results.load(tmp_path)
        (tmp_path / name).write_bytes(text)
    results.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"{"),
        ("run.json", b"[1]"),
        ("table.json", b"{}"),
        ("table.json", b'{"format": 1, "columns": [{"name": "m"}], "estimates": []}'),
        ("scores.csv", b""),
        ("run.json", b"\xff"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, make: Make, name: str, content: bytes) -> None:
    results.save(make(tmp_path))
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedResults, match="is damaged"):
        results.load(tmp_path)


def test_a_newer_format_is_no_damage(tmp_path: Path, make: Make) -> None:
    results.save(make(tmp_path))
    table = tmp_path / "table.json"
    table.write_text(table.read_text().replace('"format": 1', '"format": 99', 1))
    with pytest.raises(StgEvalError, match="newer stg-eval") as error:
        results.load(tmp_path)
    assert not isinstance(error.value, DamagedResults)


def test_results_are_read_as_utf8_in_any_locale(tmp_path: Path, make: Make) -> None:
    results.save(make(tmp_path, variant="Überblick"))
    code = "import sys, pathlib; from stg_eval.storage import results; run = results.load(pathlib.Path(sys.argv[1]))"
    env = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code + "; print(ascii(run.variants))", tmp_path],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.stdout.strip() == ascii(["Überblick"]), done.stderr


def test_clips_that_a_finished_run_says_a_metric_wanted_are_those_the_plan_scored(
    make_record: Callable[..., RunRecord],
) -> None:
    """The rule stands on both sides of the folder: tags, the first N clips, the static filter."""
    suite = replace(suites.load("vbench-t2v"), metric_clips={"imaging_quality": 100})
    plan = make_plan(suite, "opensora", guidance=("cfg", "stg"), limit=400, dry=True)
    rows = [(v.name, " ".join(r.case.tags)) for v in plan.variants for r in plan.requests[v.name]]
    run = {"metric_clips": suite.metric_clips, "score_by_tag": suite.score_by_tag, "keep_static": suite.keep_static}
    columns = estimates.columns(plan.metrics, {c.name: SimpleNamespace(signature="") for c in plan.metrics}, ())
    found = Results(Path(), make_record(**run), columns, (), pd.DataFrame(rows, columns=["variant", "tags"]))
    assert suite.score_by_tag
    for card in plan.metrics:
        scored = [one for v in plan.variants for one in plan.scored(card, v.name)]
        assert 0 < sum(scored) < len(scored)
        assert list(found.wanted(card.name)) == scored, card.name
