"""The table of peak memory that ships is what its script computes today."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stg_eval.generators import peak_memory

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peak_memory.py"


@pytest.mark.sweep
@pytest.mark.parametrize("model", ["ltx", "svd"])
def test_a_row_of_the_table_is_what_is_computed_now(model: str, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    subprocess.run([sys.executable, SCRIPT, "--only", model, "--table", table], check=True, timeout=280)
    assert json.loads(table.read_text())[model] == peak_memory._table()[model]
