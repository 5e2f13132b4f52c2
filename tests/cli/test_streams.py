"""Streams and signals cannot cost the work, and the exit code says what happened. Real processes throughout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "stg_eval.cli"]
SHELL = '"$0" -m stg_eval.cli '


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, run_cli: Callable) -> Path:
    """A run folder with an arrow in its table."""
    folder = tmp_path_factory.mktemp("streams")
    command = "run --suite demo --model tiny --set num_inference_steps=1 --limit 6 --metrics temporal_flickering"
    assert run_cli(*command.split(), "--store", folder / "store", "--output", folder / "run").code == 0
    return folder


def shell(folder: Path, command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`command` with stg-eval for $0, as bash does it with pipefail."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, sys.executable],
        cwd=folder,
        capture_output=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_that_cannot_show_an_arrow_shows_an_escape(finished: Path, encoding: str) -> None:
    done = shell(finished, SHELL + "show run", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, b"")
    assert ("↑".encode() if encoding == "utf-8" else b"\\u2191") in done.stdout


@pytest.mark.parametrize(
    ("end", "code", "says"),
    [
        (">&-", 0, b""),
        (
            ">/dev/full",
            74,
            b"error: standard output cannot be written (No space left on device); what is finished is kept\n",
        ),
        (">/dev/full 2>/dev/full", 74, b""),
        ("| true", 141, b""),
        ("2>&1 >/dev/full | true", 74, b""),
    ],
)
def test_a_stream_that_takes_nothing_costs_no_work(finished: Path, end: str, code: int, says: bytes) -> None:
    done = shell(finished, f"{SHELL} show run {end}")
    assert (done.returncode, done.stderr) == (code, says)


def test_a_verdict_outlives_a_stream_that_takes_nothing(finished: Path) -> None:
    assert shell(finished, SHELL + "show no/run >/dev/full").returncode == 2
    assert shell(finished, SHELL + "nonsense 2>/dev/full").returncode == 2


def test_closed_streams_lend_their_numbers_to_no_file(finished: Path) -> None:
    assert shell(finished, SHELL + "report run --output page <&- >&- 2>&-").returncode == 0
    report = finished / "run" / "report"
    for file in (path for path in report.rglob("*") if path.suffix in (".html", ".csv", ".png")):
        assert (finished / "page" / file.relative_to(report)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff.txt"])
def test_an_argument_that_is_no_text_is_refused_before_any_work(finished: Path, name: bytes) -> None:
    done = subprocess.run(
        [*PROGRAM, "run", "--suite", "demo", "--model", "tiny", "--output", name],
        cwd=finished,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert b"is no UTF-8 text" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not os.path.exists(os.fsencode(finished) + b"/" + name)


BUSY = """
import signal, sys, time
from stg_eval import cli
from stg_eval.cli import listing
for name, value in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    signal.signal(getattr(signal, name), value)  # as in a terminal: background jobs and nohup ignore them
def show(what, model):
    print("working", flush=True)
    {work}
listing.show = show
sys.argv = ["stg-eval", "list"]
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_stops_says_that_the_same_command_resumes(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(work="time.sleep(60)")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + number
    assert err == "stopped; what is finished is kept, the same command resumes\n"


def test_a_signal_that_was_ignored_stays_ignored(finished: Path) -> None:
    code = BUSY.format(work="signal.raise_signal(signal.SIGHUP); print('went on')").replace("SIG_DFL", "SIG_IGN")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "working\nwent on\n")


@pytest.mark.parametrize("error", ["EOFError", "BrokenPipeError(32, 'pipe')", "OSError(5, 'disk')"])
def test_a_fault_that_looks_like_a_user_who_left_exits_70(error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY.format(work=f"raise {error}")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 70
    assert "error: unexpected" in done.stderr
