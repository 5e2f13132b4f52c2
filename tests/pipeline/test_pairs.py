"""Metrics of pairs: in a run beside the baseline's clip, in folders beside the file of the same name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stg_eval.metrics.paired.psnr import frame_psnr
from stg_eval.storage import results
from stg_eval.storage.store import Store
from stg_eval.storage.video import read_video

RUN = (
    "--suite",
    "demo",
    "--model",
    "tiny",
    "--limit",
    4,
    "--set",
    "num_inference_steps=4",
    "--device",
    "cpu",
    "--metrics",
    "psnr,temporal_flickering",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, run_cli: Callable[..., Any]) -> Path:
    home = tmp_path_factory.mktemp("pairs")
    answer = run_cli("run", *RUN, "--output", home / "run", "--store", home / "store")
    assert answer.code == 0, answer.err
    assert "PSNR to the partner" in answer.out
    return home


def test_a_run_compares_each_clip_with_the_baselines_of_the_same_seed(finished: Path) -> None:
    found = results.load(finished / "run")
    rows = found.scores.set_index(["variant", "case", "seed"])
    assert rows.loc["cfg", "psnr"].isna().all()
    for (case, seed), row in rows.loc["stg"].iterrows():
        clip, partner = (
            read_video(finished / "store" / f) for f in (row["file"], rows.loc[("cfg", case, seed), "file"])
        )
        assert row["psnr"] == pytest.approx(np.minimum(frame_psnr(clip, partner), 100).mean(), rel=1e-12)
    cell = found.estimate("stg", "psnr")
    assert cell is not None
    assert cell.value == pytest.approx(rows.loc["stg", "psnr"].mean())
    assert cell.n == 4
    assert found.wanted("psnr").tolist() == [False] * 4 + [True] * 4
    assert found.run.problems == ()


def test_the_same_run_again_computes_no_pair_again(
    finished: Path, run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (finished / "run" / "scores.csv").read_bytes()
    monkeypatch.setattr("stg_eval.pipeline.pairs._together", lambda *_: pytest.fail("a pair was decoded"))
    assert run_cli("run", *RUN, "--output", finished / "run", "--store", finished / "store").code == 0
    assert (finished / "run" / "scores.csv").read_bytes() == before


def test_report_does_not_call_the_baselines_clips_unscored(finished: Path, run_cli: Callable[..., Any]) -> None:
    shown = run_cli("show", finished / "run")
    assert shown.code == 0
    assert "No PSNR" not in shown.out
    differences = shown.out[shown.out.index("Difference from cfg") :]
    assert "TF" in differences
    assert "PSNR" not in differences.split("better")[0], "what compares with the baseline has no difference from it"


def test_folders_are_paired_by_name_and_what_does_not_fit_is_named(
    tmp_path: Path, make_video: Callable[..., Path], run_cli: Callable[..., Any]
) -> None:
    ours, real = tmp_path / "ours", tmp_path / "real"
    for place, seed in ((ours, 0), (real, 1)):
        for name in ("a.mp4", "b.mp4"):
            make_video(name, seed=seed, folder=place)
    make_video("short.mp4", folder=ours)
    make_video("short.mp4", folder=real, num_frames=5)
    make_video("alone.mp4", folder=ours)
    answer = run_cli(
        *("score", ours, "--reference", real, "--metrics", "psnr,ssim", "--device", "cpu"),
        *("--output", tmp_path / "out", "--store", tmp_path / "store"),
    )
    assert answer.code == 1, answer.err
    assert "short.mp4" in answer.err
    assert "different numbers of frames" in answer.err
    assert "no video of this name under --reference" in answer.err
    scores = pd.read_csv(tmp_path / "out" / "scores.csv").set_index("case")
    expected = frame_psnr(read_video(ours / "a.mp4"), read_video(real / "a.mp4")).mean()
    assert scores.loc["a.mp4", "psnr"] == pytest.approx(expected)
    assert scores["ssim"].notna().tolist() == [True, False, True, False]
    with Store(tmp_path / "store", write=False) as store:
        assert store.path == tmp_path / "store"


def test_a_folder_without_partners_is_refused_before_any_work(
    tmp_path: Path, make_video: Callable[..., Path], run_cli: Callable[..., Any]
) -> None:
    make_video("a.mp4", folder=tmp_path / "ours")
    answer = run_cli("score", tmp_path / "ours", "--metrics", "psnr", "--store", tmp_path / "store")
    assert answer.code == 2
    assert "give their folder with --reference" in answer.err
