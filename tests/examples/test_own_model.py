"""The example package of a model of one's own: installed beside stg-eval, its model runs under every command."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_model_from_another_package_plans_lists_and_runs_without_an_edit_here(
    install: Callable[[str], Path], stg_eval: Run, tmp_path: Path
) -> None:
    installed = install("own_model")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red ball\na blue cat\n")
    run = ("run", "--suite", prompts, "--model", "pebble", "--metrics", "temporal_flickering")
    places = ("--store", tmp_path / "store", "--output", tmp_path / "out")

    dry = stg_eval(installed, *run, *places, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "Pebble (random)" in dry.stdout
    assert "Missing: nothing" in dry.stdout

    done = stg_eval(installed, *run, *places, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "`cfg3+stg-a[2]w1`" in done.stdout
    with sqlite3.connect(tmp_path / "store" / "store.sqlite") as store:
        assert store.execute("select count(*) from clips").fetchone() == (4,)  # two prompts under cfg and under stg

    listed = stg_eval(installed, "list", "models")
    assert "pebble" in listed.stdout
    costs = stg_eval(installed, "list", "guidance", "--model", "pebble")
    assert "2.50" in costs.stdout  # CFG's two passes, and the weak one from layer 2 of 4 on

    wrong = stg_eval(installed, *run, *places, "--guidance", "cfg3+stg-a[4]w1", "--dry-run")
    assert wrong.returncode == 2
    assert "Pebble has no layer '4': give a number from 0 to 3" in wrong.stderr


def test_without_the_package_its_model_is_unknown(stg_eval: Run, tmp_path: Path) -> None:
    answer = stg_eval(tmp_path, "list", "guidance", "--model", "pebble")
    assert answer.returncode == 2
    assert "unknown model 'pebble'" in answer.stderr
