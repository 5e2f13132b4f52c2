"""A run that is told to stop finishes the clips in hand; while it goes on, it can be asked how far it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stg_eval.pipeline import status
from stg_eval.storage.store import Store

RUN = ["--suite", "demo", "--model", "tiny", "--limit", "24", "--metrics", "accuracy_sprites", "--device", "cpu"]


@pytest.mark.timeout(600)
def test_sigterm_finishes_the_clips_in_hand_show_says_how_far_and_the_same_command_goes_on(
    tmp_path: Path, run_cli: Callable
) -> None:
    output, store = tmp_path / "run", tmp_path / "store"
    arguments = ["run", *RUN, "--set", "batch_size=4", "--output", str(output), "--store", str(store)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "stg_eval.cli", *arguments], env=env, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 240
        while not list(store.rglob("*.mp4")):
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < end
            time.sleep(0.02)
        shown = run_cli("show", output)
        process.send_signal(signal.SIGTERM)
        message = process.communicate(timeout=240)[1].decode()
    finally:
        process.kill()
    assert shown.code == 0
    assert re.match(rf"made \d+ of 48 clips, scored 0 of 48; .*process {process.pid} on ", shown.out)
    assert process.returncode == 128 + signal.SIGTERM, message
    assert "stopping when the clips in hand are done" in message
    files = {path.stem for path in store.rglob("*.mp4")}
    with Store(store, write=False) as opened:
        rows = {clip.key for clip in opened.all_clips()}
    assert rows == files, "what was begun is finished and recorded"
    assert 4 <= len(rows) < 48
    assert "the same command resumes" in run_cli("show", output).out
    resumed = run_cli(*arguments)
    assert resumed.code == 0
    assert f"Generating: {48 - len(rows)}/{48 - len(rows)}" in resumed.err
    assert not (output / status.FILE).exists()


def test_how_far_a_run_is_does_not_hang_on_the_clock(tmp_path: Path) -> None:
    counts = {"to_make": 100, "made": 50, "to_score": 100, "scored": 10, "seconds": 25.0}
    here = {"pid": os.getpid(), "host": os.uname().nodename}
    for written in (0.0, 2e9, time.time()):  # clocks jump; the rate is measured without them
        (tmp_path / status.FILE).write_text(json.dumps(counts | here | {"written": written}))
        assert "made 50 of 100 clips, scored 10 of 100; 2 clips a second" in (status.describe(tmp_path) or "")
    (tmp_path / status.FILE).write_text("{")
    assert status.describe(tmp_path) is None
