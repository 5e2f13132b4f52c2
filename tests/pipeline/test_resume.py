"""Whatever kills a run, the same command finishes it, and nobody can tell from the results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [
    "run",
    "--suite",
    "demo",
    "--model",
    "tiny",
    "--limit",
    "72",
    "--set",
    "num_inference_steps=2",
    "--device",
    "cpu",
]
RESULTS = ("scores.csv", "table.json", "report/tables/run-scores.md", "report/tables/run-differences.md")

DIE_IN = """
import os, signal, sys
import importlib
module_name, class_name, name, call = sys.argv.pop(1).split(":")
owner = importlib.import_module(module_name)
owner = getattr(owner, class_name) if class_name else owner
original, calls = getattr(owner, name), 0
def fatal(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(call):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)
setattr(owner, name, fatal)
from stg_eval.cli import main
main()
"""

MOMENTS = {
    "generating": "stg_eval.generators.tiny.generator:TinyGenerator:generate:2",
    "encoding": "stg_eval.storage.video.write::encode:5",
    "files there, rows not": "stg_eval.storage.store:Store:add_clips:2",
    "scoring": "stg_eval.storage.store:Store:add_results:2",
    "writing results": "stg_eval.storage.results::_sha256:2",
}
"""What is being done -> module:class:function:call in which the process dies."""


def stg_eval(folder: Path, *, die_in: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(("-c", DIE_IN, die_in) if die_in else ("-m", "stg_eval.cli"))]
    arguments = [*RUN, "--store", str(folder / "store"), "--output", str(folder / "run")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200, env=env, check=False)


@pytest.mark.timeout(600)
def test_run_killed_at_five_moments_and_resumed_equals_uninterrupted_run(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    uninterrupted = stg_eval(whole)
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    for moment, where in MOMENTS.items():
        assert stg_eval(killed, die_in=where).returncode == -signal.SIGKILL, moment
    resumed = stg_eval(killed)
    assert resumed.returncode == 0, resumed.stderr
    for name in RESULTS:
        assert (killed / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name
    assert resumed.stdout.replace(str(killed), "") == uninterrupted.stdout.replace(str(whole), "")

    record = (killed / "run" / "run.json").read_bytes()
    again = stg_eval(killed)
    assert again.returncode == 0
    assert "Generating" not in again.stderr, "a finished run makes nothing again"
    assert (killed / "run" / "run.json").read_bytes() == record
