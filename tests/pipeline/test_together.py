"""Several processes and one run folder: one writes at a time, whoever reads is served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CLI = (sys.executable, "-m", "stg_eval.cli")
CHEAP = (
    "run", "--suite", "demo", "--model", "tiny", "--limit", "2", "--metrics", "temporal_flickering", "--device", "cpu",
    "--set", "num_inference_steps=2",
)  # fmt: skip
HOLD = """
import sys
from pathlib import Path
from stg_eval.storage import results
with results.holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def run_in_progress(output: Path) -> Iterator[subprocess.Popen]:
    """A process that holds the folder as a run does while it works; it is killed at the end, as nobody plans it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, output], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def stg_eval(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([*CLI, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    done = stg_eval(*CHEAP, "--store", folder / "store", "--output", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_two_runs_exclude_each_other_and_a_killed_one_excludes_nobody(finished: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    again = (*CHEAP, "--output", finished, "--store")
    with run_in_progress(finished) as first:
        second = stg_eval(*again, tmp_path / "other")
        assert second.returncode == 2
        line = f"error: {finished} is in use by process {first.pid}; wait for it, or give another --output\n"
        assert second.stderr == line
        assert not (tmp_path / "other").exists(), "before any work"
    assert {path: path.read_bytes() for path in before} == before
    assert stg_eval(*again, finished.parent / "store").returncode == 0
    assert not list(finished.rglob(".*")), "no lock, no leftovers"


def test_report_of_a_folder_that_a_run_is_working_in(finished: Path, tmp_path: Path) -> None:
    with run_in_progress(finished):
        done = stg_eval("report", finished, "--output", tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").read_bytes() == (finished / "report" / "index.html").read_bytes()


def test_two_reports_into_one_folder_wait_for_each_other(finished: Path) -> None:
    command = [*CLI, "report", str(finished)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert not list((finished / "report").rglob(".*"))
