"""Files and folders take their names when they are whole, whatever the name and whoever else writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stg_eval.storage import atomic


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".html")
    assert len(path.name.encode()) == 255
    atomic.write(path, "whole\r\n")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"whole\r\n"


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with atomic.replacing(path) as partial:
            partial.write_text("half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "old")]


def test_a_folder_is_renewed_and_what_else_is_in_it_stays(tmp_path: Path) -> None:
    for text in ("old", "new"):
        (tmp_path / "mine").write_text(text)
        with atomic.renewing(tmp_path) as new:
            (new / "deep").mkdir()
            (new / "deep" / "file").write_text(text)
    found = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"mine": "new", "deep/file": "new"}


def test_what_was_renewed_is_found_before_it_has_moved_and_moves_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / atomic.NEW).mkdir()
    (tmp_path / atomic.NEW / "file").write_text("new")
    (tmp_path / ".01234567.partial").mkdir()
    assert atomic.newest(tmp_path, "file").read_text() == "new"
    atomic.settle(tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "new")]


def test_killed_writer_leaves_what_sweep_removes_and_nothing_of_others_goes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    (tmp_path / ".mine.partial").touch()
    script = (
        "import os, pathlib, sys; from stg_eval.storage import atomic\n"
        "with atomic.replacing(pathlib.Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3
    assert path.read_text() == "old"
    atomic.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".mine.partial", "file"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic.replacing(path) as one, atomic.replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "one")]  # who ends last
