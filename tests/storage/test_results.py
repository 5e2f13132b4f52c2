"""A run folder: text stays text, damage and full disks are one clear line, nothing half-written passes for whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
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


def test_a_disk_that_fills_up_leaves_no_old_table_beside_a_new_run(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.save(make(tmp_path))
    original = Path.write_text

    def full(self: Path, *args: object, **kwargs: object) -> int:
        if self.name.startswith("scores.csv"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(StgEvalError, match="No space left on device"):
            results.save(make(tmp_path))
    with pytest.raises(StgEvalError, match="no finished run"):
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
