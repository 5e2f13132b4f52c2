"""The leaderboard, histories and files of the page over many runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stg_eval
from stg_eval.reports import write_overview_report
from stg_eval.reports.overview.board import boards, leaderboard
from stg_eval.reports.overview.history import histories
from stg_eval.reports.writers import WRITERS
from stg_eval.storage import results as storing
from stg_eval.storage.results import Results, run_folders
from stg_eval.types import StgEvalError

MakeResults = Callable[..., Results]


def shifted(results: Results, metric: str, by: float, **record: Any) -> Results:
    """The run with one metric shifted, in its scores and its values."""
    estimates = tuple(
        replace(e, value=e.value + by, low=e.low + by, high=e.high + by) if e.metric == metric else e
        for e in results.estimates
    )
    scores = results.scores.assign(**{metric: results.scores[metric] + by}) if metric != "fvd" else results.scores
    return replace(results, scores=scores, estimates=estimates, run=results.run.model_copy(update=record))


def noisy(results: Results, seed: int) -> Results:
    noise = np.random.default_rng(seed).normal(0, 0.002, len(results.scores))
    return replace(
        results, scores=results.scores.assign(temporal_flickering=results.scores.temporal_flickering + noise)
    )


def page_data(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert found
    return json.loads(found[1])  # type: ignore[no-any-return]


def test_rows_are_ranked_by_what_pairs_can_tell(tmp_path: Path, make_results: MakeResults) -> None:
    """Two models, one better by far less than clips differ: pairing tells them apart, intervals would not."""
    base = make_results(tmp_path, pairs=80, variants={"cfg": "cfg3"})
    runs = [noisy(shifted(base, "temporal_flickering", 0.004 * i, model=f"model-{i}"), i) for i in range(3)]
    (board,) = boards(runs)
    table = leaderboard(board, "leaderboard")
    standing = next(s for s in board.standings if s.column.name == "temporal_flickering")
    assert standing.beaten.tolist() == [[False, True, True], [False, False, True], [False] * 3]
    value = board.entries[0].estimate("temporal_flickering")
    assert value
    assert value.high - value.low > 0.004, "and their intervals overlap"
    fvd = next(s for s in board.standings if s.column.name == "fvd")
    assert not fvd.beaten.any(), "equal values"
    assert [row.labels[0] for row in table.rows] == ["1–3"] * 3, "ordered by FVD, the first column"
    for write in WRITERS.values():
        assert "model-2" in write(table)


def test_earlier_runs_and_other_signatures_are_not_ranked(tmp_path: Path, make_results: MakeResults) -> None:
    base = make_results(tmp_path, pairs=8)
    newer = tuple(replace(c, signature="TF|vbench|v2") if c.name == "temporal_flickering" else c for c in base.columns)
    runs = [base, base, replace(base, columns=newer, run=base.run.model_copy(update={"model": "other"}))]
    (board,) = boards(runs)
    flicker = next(s for s in board.standings if s.column.name == "temporal_flickering")
    assert board.latest == (2, 3, 4, 5)
    assert flicker.ranked == (2, 3)
    assert flicker.ways == (0, 0, 0, 0, 1, 1)
    assert len(leaderboard(board, "x").rows) == 4


def test_suites_have_boards_of_their_own(tmp_path: Path, make_results: MakeResults) -> None:
    runs = [make_results(tmp_path, pairs=2, name=name, run={"suite": name, "title": name.upper()}) for name in "abb"]
    assert [(board.suite, len(board.entries)) for board in boards(runs)] == [("b", 4), ("a", 2)]


def test_a_history_finds_the_step_and_says_what_came_with_it(tmp_path: Path, make_results: MakeResults) -> None:
    base = make_results(tmp_path, pairs=80)
    made = base.run.provenance
    runs = []
    for i in range(8):
        later = made.model_copy(update={"packages": {"diffusers": "0.42.1" if i >= 5 else "0.42.0"}})
        runs.append(noisy(shifted(base, "temporal_flickering", -0.01 * (i >= 5), provenance=later), i))
    (board,) = boards(runs)
    found = {h.column.name: h.changes for h in histories(board, lambda metric, before: 0.001)}
    assert [(one.at, one.found) for one in found["temporal_flickering"]] == [(5, 5)]
    assert not found["fvd"]
    assert not found["dynamic_degree"]
    page = write_overview_report(runs, tmp_path, tmp_path / "out", lambda metric, before: 0.001)
    changes = [c for h in page_data(page)["boards"][0]["histories"] for c in h["changes"]]
    assert {(c["word"], *c["with"]) for c in changes} == {("worse", "diffusers 0.42.0 → 0.42.1")}


def test_a_folder_of_runs_is_one_page_in_the_order_of_their_names(
    tmp_path: Path, make_results: MakeResults, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("build-10", "build-9", "nested/build-2", ".hidden", "report/old"):
        run = make_results(tmp_path / "runs", pairs=2, name=name)
        run.path.mkdir(parents=True)
        storing.save(run)
    broken = tmp_path / "runs" / "build-9" / "scores.csv"
    broken.write_text(broken.read_text()[:50])
    assert [p.name for p in run_folders(tmp_path / "runs")] == ["build-9", "build-10", "build-2"]
    page = stg_eval.report(runs=tmp_path / "runs")
    assert page == tmp_path / "runs" / "report" / "index.html"
    data = page_data(page)
    assert [run["name"] for run in data["runs"]] == ["build-10", "build-2"]
    assert "build-9" in capsys.readouterr().err
    assert "Left out" in page.read_text()
    assert {p.name for p in (page.parent / "tables").iterdir()} >= {"leaderboard.tex", "methods.md", "tables.tex"}
    assert stg_eval.report(runs=tmp_path / "runs" / "build-10").parent.name == "report", "one run is reported as ever"
    with pytest.raises(StgEvalError, match="no finished run"):
        stg_eval.report(runs=tmp_path / "nothing")


def test_same_runs_give_the_same_bytes_and_no_number_is_lost(tmp_path: Path, make_results: MakeResults) -> None:
    runs = [make_results(tmp_path, pairs=3, clips=True, name=name) for name in "ab"]
    pages = [write_overview_report(runs, tmp_path / "store", tmp_path / out, lambda *_: 0.001) for out in ("x", "y")]
    files = sorted(p.relative_to(tmp_path / "x") for p in (tmp_path / "x").rglob("*") if p.is_file())
    for file in files:
        assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "y" / file).read_bytes(), file
    text = (pages[0].parent / "runs" / "0001.js").read_text()
    found = json.loads(text.removeprefix("loaded(1, ").removesuffix(");\n"))
    rows = runs[1].scores[runs[1].scores.variant == "stg-a"]
    assert [row[4][0] for row in found["variants"]["stg-a"]] == pytest.approx(list(rows.temporal_flickering), rel=1e-8)
    for row in found["variants"]["cfg"]:
        clip = pages[0].parent / row[3]["file"]
        assert clip.is_file()


def test_damaged_and_missing_clips_say_so(tmp_path: Path, make_results: MakeResults) -> None:
    run = make_results(tmp_path, pairs=2, clips=True)
    files = [tmp_path / "store" / file for file in run.scores.file]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:200])
    page = write_overview_report([run, run], tmp_path / "store", tmp_path / "out", lambda *_: 0.001)
    script = (page.parent / "runs" / "0000.js").read_text()
    assert "is gone" in script
    assert script.count('"problem"') == 2
