"""Disks that fill up or refuse to be written, cut files and clocks that jump: the same command goes on, and nobody can
tell. With real processes on real file systems."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from stg_eval.storage.store import Store

RUN = ["run", "--suite", "demo", "--model", "tiny", "--limit", "24", "--metrics", "accuracy_sprites"]
RUN += ["--set", "batch_size=4", "--set", "num_inference_steps=2", "--device", "cpu"]
ENV = os.environ | {"OMP_NUM_THREADS": "1"}
CLIPS = 48

JUMPING = """
import itertools, time
jumps, true = itertools.cycle((0, -4e8, 9e8, 3.6e3)), time.time
time.time = lambda: true() + next(jumps)
time.time_ns = lambda: int(time.time() * 1e9)
"""
"""A sitecustomize.py: each look at the clock shows another year."""

DIE_IN_SCORING = """
import os, signal
from stg_eval.cli import main
from stg_eval.storage.store import Store
Store.add_results = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def arguments(folder: Path) -> list[str]:
    return [*RUN, "--store", str(folder / "store"), "--output", str(folder / "run")]


def stg_eval(
    folder: Path, env: Mapping[str, str] = ENV, code: str = "from stg_eval.cli import main; main()"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=env, check=False)


def table(folder: Path) -> list[bytes]:
    return [(folder / "run" / name).read_bytes() for name in ("scores.csv", "table.json")]


def recorded(folder: Path) -> int:
    with Store(folder / "store", write=False) as store:
        return sum(1 for _ in store.all_clips())


def generated(stderr: str) -> int:
    """How many clips a run set out to make."""
    found = re.findall(r"Generating: \d+/(\d+)", stderr)
    return int(found[-1]) if found else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    finished = stg_eval(folder)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_a_finished_run_asked_for_again_computes_nothing_and_does_not_even_wait_for_torch(whole: Path) -> None:
    record = (whole / "run" / "run.json").read_bytes()
    again = stg_eval(whole, ENV | {"PYTHONPROFILEIMPORTTIME": "1"})
    assert again.returncode == 0
    assert generated(again.stderr) == 0
    imported = re.findall(r"\| +([\w.]+)$", again.stderr, re.MULTILINE)
    assert "pandas" in imported
    assert "torch" not in imported
    assert (whole / "run" / "run.json").read_bytes() == record


def namespace() -> list[str] | None:
    """What runs a command where it may mount file systems, which go with it; None where that is not allowed."""
    for flags in ("-m", "-rm"):  # as root, else as root of a user namespace
        command = ["unshare", flags, "sh", "-c"]
        try:
            probe = subprocess.run([*command, "mount -t tmpfs x /mnt"], capture_output=True, timeout=20, check=False)
        except OSError:
            return None
        if probe.returncode == 0:
            return command
    return None


@pytest.mark.timeout(900)
def test_a_disk_that_is_full_then_read_only_then_well_again_loses_no_clip(tmp_path: Path, whole: Path) -> None:
    inside = namespace()
    if inside is None:
        pytest.skip("file systems cannot be mounted here")
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").mkdir()
    folder = tmp_path / "disk"
    run = " ".join(map(repr, [sys.executable, "-m", "stg_eval.cli", *arguments(folder)]))
    script = f"""
        cd {tmp_path}
        mount -t tmpfs -o size=260k tmpfs disk || exit 99
        {run} 2> full; echo $? > full.code
        cp -r disk/store after-full
        mount -o remount,ro,size=100m disk
        {run} 2> read-only; echo $? > read-only.code
        mount -o remount,rw disk
        mount -t tmpfs -o ro tmpfs cache
        HOME={tmp_path}/cache XDG_CACHE_HOME={tmp_path}/cache STG_EVAL_CACHE={tmp_path}/cache {run} 2> well
        echo $? > well.code
        mkdir copy; cp -r disk/. copy
    """
    done = subprocess.run([*inside, script], env=ENV, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stderr
    said = {name: (tmp_path / name).read_text() for name in ("full", "read-only", "well")}
    codes = {name: int((tmp_path / f"{name}.code").read_text()) for name in said}
    assert codes == {"full": 2, "read-only": 2, "well": 0}, said
    assert "No space left on device" in said["full"] or "is full" in said["full"], said
    assert "Read-only file system" in said["read-only"] or "cannot write" in said["read-only"], said
    (tmp_path / "after-full").rename(tmp_path / "store")
    made = recorded(tmp_path)
    assert 0 < made < CLIPS
    assert generated(said["well"]) == CLIPS - made, "what is recorded is not made again"
    assert table(tmp_path / "copy") == table(whole)


@pytest.mark.timeout(900)
def test_a_run_killed_while_the_clock_jumps_whose_journal_and_clip_were_cut_ends_as_if_nothing_had_been(
    tmp_path: Path, whole: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    env = ENV | {"PYTHONPATH": os.pathsep.join((str(tmp_path), ENV.get("PYTHONPATH", "")))}
    killed = stg_eval(tmp_path, env, DIE_IN_SCORING)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    journal = tmp_path / "store" / "store.sqlite-wal"
    with open(journal, "r+b") as file:
        file.truncate(journal.stat().st_size // 2)
    left = recorded(tmp_path)
    assert 0 < left < CLIPS, "the journal's last clips are forgotten, its first are not"
    with Store(tmp_path / "store", write=False) as store:
        cut = next(store.all_clips())
    with open(tmp_path / "store" / cut.file, "r+b") as file:
        file.truncate(100)
    resumed = stg_eval(tmp_path, env)
    assert resumed.returncode == 0, resumed.stderr
    assert generated(resumed.stderr) == CLIPS - left + 1
    assert table(tmp_path) == table(whole)
