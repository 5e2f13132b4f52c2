"""The Python functions: options as on the command line, keywords only, nothing heavy until a verb is asked for."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import stg_eval
from stg_eval import options
from stg_eval.options import options_of
from stg_eval.types import StgEvalError

VERBS = {
    "run": options.Run,
    "sweep": options.Sweep,
    "reproduce": options.Reproduce,
    "score": options.Score,
    "report": options.Report,
    "compare": options.Compare,
    "export": options.Export,
    "track": options.Track,
    "views": options.Views,
    "first-frames": options.FirstFrames,
}
CHEAP = {"suite": "demo", "model": "tiny", "metrics": "temporal_flickering", "limit": 2, "device": "cpu"}
QUICK = {"num_inference_steps": 2}


@pytest.mark.parametrize("verb", VERBS)
def test_function_and_command_take_the_same_options(verb: str) -> None:
    import typer.main

    from stg_eval.cli.verbs import app

    command: Any = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    on_the_line = {parameter.name for parameter in command.params} - {"help", "open_", "wide"}
    function = getattr(stg_eval, verb.replace("-", "_"))
    parameters = inspect.signature(function).parameters
    assert on_the_line == set(parameters) == set(options_of(VERBS[verb]))
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    required = {p.name for p in parameters.values() if p.default is inspect.Parameter.empty}
    assert required == {parameter.name for parameter in command.params if parameter.required}


def test_every_verb_that_makes_clips_takes_the_same_set_and_every_one_that_scores_a_common_part() -> None:
    making, scoring = set(options.Making.__annotations__), set(options.Scoring.__annotations__)
    for verb in (options.Run, options.Sweep, options.Reproduce):
        assert making <= set(options_of(verb))
    assert scoring <= set(options_of(options.Score))


def test_a_wrong_or_absent_keyword_is_a_type_error_with_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"run\(\) has no keyword 'limits'; did you mean 'limit'"):
        stg_eval.run(suite="demo", model="tiny", limits=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"run\(\) needs the keyword 'model': Model to run"):
        stg_eval.run(suite="demo")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="runn"):
        _ = stg_eval.runn


@pytest.mark.parametrize("place", ["store", "output", "suite"])
def test_a_place_whose_name_is_no_text_is_refused_before_any_work(tmp_path: Path, place: str) -> None:
    places = {"suite": "demo", "store": tmp_path / "s", "output": tmp_path / "o"}
    with pytest.raises(StgEvalError, match="is no UTF-8 text"):
        stg_eval.run(**CHEAP | places | {place: tmp_path / os.fsdecode(b"caf\xe9")})
    assert not (tmp_path / "s" / "clips").exists()


def test_several_models_are_a_run_each_beside_one_page(tmp_path: Path) -> None:
    options = CHEAP | {"model": "tiny-weak,tiny"}
    finished = stg_eval.run(**options, settings=QUICK, store=tmp_path / "s", output=tmp_path / "o")
    assert [one.path.name for one in finished.results] == ["demo-tiny-weak", "demo-tiny"]
    assert finished.page == tmp_path / "o" / "report" / "index.html"
    assert 'class="seen"' in finished.page.read_text(encoding="utf-8")
    alone = stg_eval.run(**CHEAP, settings=QUICK, store=tmp_path / "s", output=tmp_path / "a").results[0]
    assert alone.scores.equals(finished.results[1].scores)


def test_function_and_command_make_the_same_run(tmp_path: Path, run_cli: Callable[..., Any]) -> None:
    guidance = ["cfg", stg_eval.Guidance.parse("cfg2+stg-a[6]t0.25")]
    finished = stg_eval.run(
        **CHEAP,
        guidance=guidance,
        settings={"num_inference_steps": 2},
        store=tmp_path / "s",
        output=str(tmp_path / "a"),
    )
    assert finished.missing == ()
    assert finished.page == tmp_path / "a" / "report" / "index.html"
    arguments = [part for name, value in CHEAP.items() for part in (f"--{name}", value)]
    arguments += [part for one in guidance for part in ("--guidance", one)]
    places = ("--store", tmp_path / "t", "--output", tmp_path / "b")
    answer = run_cli("run", *arguments, "--set", "num_inference_steps=2", *places)
    assert answer.code == 0, answer.err
    assert answer.out.startswith(finished.table)
    assert (tmp_path / "a" / "scores.csv").read_bytes() == (tmp_path / "b" / "scores.csv").read_bytes()
    (made,) = finished.results
    assert stg_eval.load(tmp_path / "a").run == made.run
    assert stg_eval.report(runs=tmp_path / "a", output=tmp_path / "page").is_file()
    clips = stg_eval.score(folder=tmp_path / "s", metrics=["temporal_flickering"], store=tmp_path / "u", device="cpu")
    assert sorted(clips.results[0].scores["temporal_flickering"]) == sorted(made.scores["temporal_flickering"])
    kept = stg_eval.compare(baseline=tmp_path / "b.zip", run=tmp_path / "a", update_baseline=True)
    assert (kept.exit_code, stg_eval.compare(baseline=tmp_path / "b.zip", run=tmp_path / "b").exit_code) == (0, 0)


def test_a_dry_run_of_each_verb_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forecasts = [
        stg_eval.run(**CHEAP, dry_run=True),
        stg_eval.sweep(**CHEAP, layers=["3", "6"], scales=[0.5], fraction=0.5, reader="decord", dry_run=True),
        stg_eval.reproduce(recipe="table5", limit=2, engine="official", model_override="tiny-svd", dry_run=True),
    ]
    assert all("nothing is made" in one.table and one.results == () for one in forecasts)
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_and_naming_the_options_loads_nothing_heavy() -> None:
    code = """
import sys, stg_eval, stg_eval.options
heavy = {"torch", "numpy", "pandas", "scipy", "pydantic", "av", "diffusers", "transformers"} & set(sys.modules)
assert not heavy, heavy
assert stg_eval.run.__name__ == "run"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
