"""Example packages installed as pip puts them, and `stg-eval` in a process of its own that sees them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with the package of examples/NAME and its metadata."""

    def make(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        source = shutil.copytree(ROOT / "examples" / name, home / "source")  # its build lies beside the source
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*pip, "--target", home / "site", source], check=True, timeout=120)
        return home / "site"

    return make


@pytest.fixture(scope="session")
def stg_eval() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`stg-eval ARGUMENTS` in a process whose path begins with `site`."""

    def run(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stg_eval.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]), "OMP_NUM_THREADS": "1"},
            timeout=240,
            check=False,
        )

    return run
