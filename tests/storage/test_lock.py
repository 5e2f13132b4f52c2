"""One process at a time, and no lock file that outlives its use."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from stg_eval.storage import lock
from stg_eval.types import StgEvalError


def test_a_lock_excludes_others_and_says_by_whom(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with lock.held(file, "try another"), pytest.raises(StgEvalError, match=rf"process {os.getpid()}; .*try another"):
        lock.take(file, "try another")
    assert list(tmp_path.iterdir()) == []


def test_those_who_wait_take_turns_although_each_removes_the_file(tmp_path: Path) -> None:
    file, inside, most = tmp_path / "lock", [0], [0]

    def work() -> None:
        for _ in range(20):
            with lock.held(file, "", wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            lock.take(tmp_path / "lock", "")
    assert list(tmp_path.iterdir()) == []
