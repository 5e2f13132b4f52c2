"""The workflow files are real: they parse, and every command in them is one that stg-eval accepts."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from stg_eval import generators, suites
from stg_eval.cli.verbs import app
from stg_eval.gate.policy import read_policy
from stg_eval.generators import card
from stg_eval.metrics.registry import METRICS

CI = Path(__file__).parents[2] / "docs" / "ci"
FILES = sorted(CI.glob("*.yml"))


def _commands(text: str) -> list[list[str]]:
    lines = re.findall(r"^[#\s]*(?:- )?(?:run: )?(stg-eval .*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_commands_are_accepted_with_suites_and_models_that_exist(file: Path) -> None:
    commands = _commands(file.read_text(encoding="utf-8"))
    assert len(commands) >= 2
    for name, *arguments in commands:
        context = typer.main.get_command(app).commands[name].make_context(name, list(arguments))  # type: ignore[attr-defined]
        if name == "run":
            suite, model = suites.load(context.params["suite"]), card(context.params["model"])
            for guidance in context.params["guidance"] or ():
                assert guidance in model.presets
            assert suite.metrics


@pytest.mark.parametrize("file", sorted(CI.glob("*.yml")), ids=lambda path: path.name)
def test_workflows_are_workflows(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow.keys() == {"name", True, "jobs"}  # YAML 1.1 reads the key "on" as true
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        assert any("stg-eval compare" in step.get("run", "") for step in job["steps"])


def test_the_gpu_workflow_installs_and_fetches_what_its_run_needs_and_counts_its_clips_right() -> None:
    text = (CI / "gate-gpu.yml").read_text(encoding="utf-8")
    steps = [step.get("run", "") for step in yaml.safe_load(text)["jobs"]["gate"]["steps"]]
    run = next(i for i, step in enumerate(steps) if step.startswith("stg-eval run"))
    install = next(i for i, step in enumerate(steps) if step.startswith("pip install"))
    fetch = next(i for i, step in enumerate(steps) if step.startswith("stg-eval weights fetch"))
    assert install < fetch < run
    assert re.search(r"--no-deps -c constraints\.txt vbench pyiqa$", steps[install])

    context = typer.main.get_command(app).commands["run"].make_context("run", shlex.split(steps[run])[2:])  # type: ignore[attr-defined]
    suite, model = suites.load(context.params["suite"]), card(context.params["model"])
    of_model = [row.name for row in generators.get(model.name).checkpoints]
    of_metrics = [row.name for metric in suite.metrics for row in METRICS[metric].weights]
    assert sorted(shlex.split(steps[fetch])[3:]) == sorted({*of_model, *of_metrics})
    assert f"then {suite.clips} clips" in text
    assert context.params["limit"] is None


def test_the_policy_file_holds_the_defaults_it_claims() -> None:
    from stg_eval.gate.golden import GATES
    from stg_eval.gate.policy import Policy

    policy = read_policy(CI / "gate.toml")
    assert policy.level == Policy().level
    assert {name: METRICS[name].margin for name in policy.margins} == policy.margins != {}
    assert policy.golden == GATES
