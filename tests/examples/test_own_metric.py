"""The example package of a metric of one's own: installed beside stg-eval, it scores runs and passes the gate."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from stg_eval.storage.video import read_video

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_metric_from_another_package_scores_a_run_and_is_gated_without_an_edit_here(
    install: Callable[[str], Path], stg_eval: Run, tmp_path: Path
) -> None:
    site = install("own_metric")
    assert "sharpness" in stg_eval(site, "list", "metrics").stdout

    def run(output: Path, store: Path) -> subprocess.CompletedProcess[str]:
        wanted = ("--metrics", "sharpness,temporal_flickering", "--limit", 24, "--device", "cpu")
        wanted += ("--set", "num_inference_steps=2")
        return stg_eval(
            site, "run", "--suite", "demo", "--model", "tiny", *wanted, "--output", output, "--store", store
        )

    done = run(tmp_path / "one", tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "sharpness|horizontal|v1" in done.stdout
    scores = pd.read_csv(tmp_path / "one" / "scores.csv")
    frames = read_video(tmp_path / "store" / scores["file"][0]).astype(float)
    assert abs(scores["sharpness"][0] - np.abs(np.diff(frames, axis=2)).mean()) < 1e-9

    assert run(tmp_path / "two", tmp_path / "other-store").returncode == 0
    gated = stg_eval(site, "compare", tmp_path / "one", tmp_path / "two")
    assert gated.returncode == 0, gated.stderr
    assert "Sharpness" in gated.stdout

    without = stg_eval(tmp_path, "score", tmp_path / "store", "--metrics", "sharpness")
    assert without.returncode == 2
    assert "unknown metric 'sharpness'" in without.stderr
