"""`stg-eval compare` itself: every exit code, every complaint in a line, and the fixture that teams use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stg_eval.pytest_plugin import Gate
from stg_eval.storage.record import Missing
from stg_eval.storage.results import Results

pytest_plugins = ["pytester"]
MakeRun = Callable[..., Path]
MARGINS = "[margins]\nsharpness = 0.1\ntoy_fvd = 0.1\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "gate.toml").write_text(MARGINS)
    return tmp_path / "gate.toml"


@pytest.fixture
def baseline(make_run: MakeRun, tmp_path: Path, run_cli: Callable[..., Any]) -> Path:
    file = tmp_path / "baseline.zip"
    answer = run_cli("compare", file, make_run("before"), "--update-baseline")
    assert answer.code == 0
    assert "baseline written" in answer.out
    return file


def test_exit_code_0_for_a_run_that_is_as_good(
    baseline: Path, config: Path, make_run: MakeRun, run_cli: Callable[..., Any]
) -> None:
    answer = run_cli("compare", baseline, make_run("after"), "--config", config)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith("pass: nothing got worse in 2 comparisons\n")


def test_exit_code_1_for_a_regression_with_all_outputs(
    baseline: Path, config: Path, make_run: MakeRun, run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    files = {name: tmp_path / f"out.{name}" for name in ("json", "junit", "summary")}
    options = [item for name, path in files.items() for item in (f"--{name}", path)]
    answer = run_cli("compare", baseline, make_run("after", sharper=-0.4), "--config", config, *options)
    assert answer.code == 1
    assert "regression: Sharpness (cfg)" in answer.out
    assert json.loads(files["json"].read_text())["exit_code"] == 1
    assert "<failure" in files["junit"].read_text()
    assert "Pairs that moved most" in files["summary"].read_text()


def test_exit_code_1_is_gone_once_the_baseline_is_updated(
    baseline: Path, config: Path, make_run: MakeRun, run_cli: Callable[..., Any]
) -> None:
    after = make_run("after", sharper=-0.4)
    assert run_cli("compare", baseline, after, "--update-baseline").code == 0
    assert run_cli("compare", baseline, after, "--config", config).code == 0


def test_exit_code_2_for_what_is_invalid(
    baseline: Path, make_run: MakeRun, run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    def broken(run: Results) -> None:
        run.scores.loc[3, "sharpness"] = np.nan

    after, nan = make_run("after"), make_run("nan", edit=broken)
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(baseline.read_bytes()[:1000])
    for arguments, line in (
        ((truncated, after), "is not a whole baseline"),
        ((tmp_path / "absent.zip", after), "there is no run or baseline"),
        ((baseline, tmp_path / "absent"), "there is no run or baseline"),
        ((baseline, tmp_path), "holds no finished run"),
        ((baseline, nan), "sharpness is nan in the run alone for 1 clips"),
        ((baseline, after, "--config", tmp_path / "absent.toml"), "cannot read"),
        ((baseline, after, "--golden", 3), "leave it out when comparing"),
    ):
        answer = run_cli("compare", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert line in answer.err
        assert "Traceback" not in answer.err


def test_exit_code_3_for_what_is_not_comparable(
    baseline: Path, make_run: MakeRun, run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    lost = (Missing(variant="cfg", case="case-5", seed=1, problem="out of memory"),)
    after, report = make_run("after", record={"missing": lost}), tmp_path / "out.json"
    answer = run_cli("compare", baseline, after, "--json", report)
    assert answer.code == 3
    assert "clips: 'cfg/case-5/seed 1' is missing in the run" in answer.err
    assert json.loads(report.read_text())["mismatches"][0]["field"] == "clips"
    assert run_cli("compare", baseline, after, "--allow", "clips").code == 0


def test_the_summary_goes_where_github_says(
    baseline: Path, make_run: MakeRun, run_cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    run_cli("compare", baseline, make_run("after"))
    assert (tmp_path / "step.md").read_text().startswith("## ✅")


def test_the_fixture_checks_a_run_and_shows_the_table(
    baseline: Path, make_run: MakeRun, config: Path, pytester: pytest.Pytester
) -> None:
    good, bad = make_run("good"), make_run("bad", sharper=-0.4)
    pytester.makepyfile(
        f"""
        from pathlib import Path

        def test_good(stg_eval):
            stg_eval.check({str(baseline)!r}, {str(good)!r}, config=Path({str(config)!r}))

        def test_bad(stg_eval):
            stg_eval.check({str(baseline)!r}, {str(bad)!r}, config=Path({str(config)!r}))
        """
    )
    arguments = ("-p", "no:cacheprovider")  # the plug-in comes by its entry point, as it does for users
    result = pytester.runpytest_inprocess(*arguments)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Sharpness*worse*", "*regression: Sharpness (cfg)*"])
    pytester.runpytest_inprocess(*arguments, "--stg-eval-update-baseline").assert_outcomes(passed=2)
    pytester.runpytest_inprocess(*arguments, "-k", "bad").assert_outcomes(passed=1, deselected=1)


def test_the_embedded_model_run_twice_does_not_differ_at_all(tmp_path: Path) -> None:
    """What the fixture does: run and keep; run anew into another store and compare."""
    options: dict[str, Any] = {
        "guidance": ("none",),
        "metrics": "temporal_flickering,accuracy_sprites",
        "limit": 4,
        "settings": ("num_inference_steps=3", "batch_size=4"),
        "device": "cpu",
    }
    keep, check = Gate(tmp_path / "first", update=True), Gate(tmp_path / "second", update=False)
    keep.check(tmp_path / "tiny.zip", keep.run("demo", "tiny", **options))
    outcome = check.check(tmp_path / "tiny.zip", check.run("demo", "tiny", **options))
    assert [(v["n"], v["difference"]) for v in outcome.data["verdicts"]] == [(4, 0)] * 3
    words = {v["metric"]: v["word"] for v in outcome.data["verdicts"]}  # four equal 0/1 scores say little of a share
    assert words == {"temporal_flickering": "same", "accuracy_sprites": "cannot tell", "moved": "same"}
    with pytest.raises(pytest.fail.Exception, match="there is no run or baseline"):
        check.check(tmp_path / "absent.zip", tmp_path / "second" / "run")
