"""Every example runs as its first lines say, in a process of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def python(*arguments: str | Path, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_plain_pipeline_is_guided_and_restored(tmp_path: Path) -> None:
    said = python(EXAMPLES / "guided_pipeline.py", cwd=tmp_path)
    moved = re.search(r"\[1, 18, 8\] by ([\d.]+)%", said)
    assert moved
    assert 0.1 < float(moved[1]) < 50
    assert "equal to the bit" in said


def test_the_gate_in_pytest_writes_its_baseline_and_then_passes(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "pytest_gate" / "test_videos.py", tmp_path)
    pytest_here = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_videos.py")
    python(*pytest_here, "--stg-eval-update-baseline", cwd=tmp_path)
    assert (tmp_path / "baseline.zip").is_file()
    assert "1 passed" in python(*pytest_here, cwd=tmp_path)
