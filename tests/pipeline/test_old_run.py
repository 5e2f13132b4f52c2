"""A run, its store and its baseline as version 0.1.0 wrote them: 72 clips of each of two variants, all metrics."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run/, store/ and baseline.zip, the run's store named where it now lies."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(HERE / "data" / "run-of-0.1.0.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    text = (folder / "run" / "run.json").read_text()
    (folder / "run" / "run.json").write_text(text.replace("/tmp/gold/store", str(folder / "store")))
    return folder


def test_show_prints_what_it_holds(run_cli: Callable, old: Path) -> None:
    answer = run_cli("show", old / "run")
    assert answer.code == 0, answer.err
    record = json.loads(answer.out[answer.out.index("\n{") :])
    assert (record["format"], record["provenance"]["git_commit"]) == (1, "0c5a41e2908c")


def test_report_has_its_table_and_every_clip(run_cli: Callable, old: Path, tmp_path: Path) -> None:
    answer = run_cli("report", old / "run", "--output", tmp_path / "report")
    assert answer.code == 0, answer.err
    assert "Missing: not made" not in (tmp_path / "report" / "index.html").read_text()
    printed = pd.read_csv(tmp_path / "report" / "tables" / "run-scores.csv")
    cells = json.loads((old / "run" / "table.json").read_text())["estimates"]
    values = {(cell["variant"], cell["metric"]): cell["value"] for cell in cells}
    flickering = [round(values[variant, "temporal_flickering"], 3) for variant in ("cfg", "stg")]
    assert printed["TF"].tolist() == flickering


def test_compare_finds_it_equal_to_its_baseline(run_cli: Callable, old: Path) -> None:
    answer = run_cli("compare", old / "baseline.zip", old / "run")
    assert answer.code == 0, answer.err
    assert "pass: nothing got worse in 16 comparisons" in answer.out
    assert "Changed" not in answer.out


def test_export_copies_every_video(run_cli: Callable, old: Path, tmp_path: Path) -> None:
    answer = run_cli("export", "vbench", old / "run", tmp_path)
    assert answer.code == 0, answer.err
    assert [line.rsplit(": ", 1)[1] for line in answer.out.splitlines()] == ["72 videos", "72 videos"]


def test_the_same_command_finds_every_clip_and_score_in_its_store(run_cli: Callable, old: Path, tmp_path: Path) -> None:
    command = ("run", "--suite", "demo", "--model", "tiny", "--limit", "72", "--device", "cpu")
    metrics = json.loads((old / "run" / "run.json").read_text())["metrics"]  # in the order that the suite had them
    answer = run_cli(*command, "--metrics", ",".join(metrics), "--store", old / "store", "--output", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert "Generating: 0/0" in answer.err or "Generating" not in answer.err
    assert (tmp_path / "run" / "scores.csv").read_bytes() == (old / "run" / "scores.csv").read_bytes(), "keys and all"
    tables = [json.loads((folder / "run" / "table.json").read_text()) for folder in (old, tmp_path)]
    columns = zip(*(table["columns"] for table in tables), strict=True)
    assert all(after.items() >= before.items() for before, after in columns), "signatures and all"
    for before, after in zip(*(table["estimates"] for table in tables), strict=True):
        numbers = {name for name, value in before.items() if isinstance(value, float)}
        assert {n: after[n] for n in numbers} == pytest.approx({n: before[n] for n in numbers}, rel=1e-6, nan_ok=True)
        assert {n: after[n] for n in after.keys() - numbers} == {n: before[n] for n in before.keys() - numbers}
