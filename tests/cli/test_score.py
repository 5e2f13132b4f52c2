"""`stg-eval score`: what can be scored is, what cannot is named, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def places(tmp_path: Path) -> tuple[str, ...]:
    return ("--store", str(tmp_path / "store"), "--output", str(tmp_path / "run"))


def test_a_folder_is_scored_and_its_broken_files_are_named(
    run_cli: Callable, tmp_path: Path, make_video: Callable
) -> None:
    good = [make_video(f"good-{i}.mp4", seed=i) for i in range(3)]
    folder = good[0].parent
    (folder / "empty.mp4").touch()
    (folder / "cut.mp4").write_bytes(good[0].read_bytes()[: good[0].stat().st_size // 2])
    (folder / "noise.mp4").write_bytes(b"not a video" * 100)
    make_video("single.mp4", num_frames=1)
    answer = run_cli("score", folder, "--metrics", "temporal_flickering", *places(tmp_path))
    assert answer.code == 1
    for name in ("empty.mp4", "cut.mp4", "noise.mp4"):
        assert name in answer.err
    assert "good-0" not in answer.err
    scores = (tmp_path / "run" / "scores.csv").read_text()
    assert "single.mp4" in scores


def test_a_folder_is_named_wherever_one_stands(
    run_cli: Callable, tmp_path: Path, make_video: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_video(folder=tmp_path / "2024").parent
    monkeypatch.chdir(folder)
    answer = run_cli("score", ".", "--metrics", "temporal_flickering", *places(tmp_path))
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["title"] == "Videos in 2024"
    assert run_cli("report", tmp_path / "run").code == 0, "a name that looks like a number"


def test_equal_files_are_named_and_both_counted(run_cli: Callable, tmp_path: Path, make_video: Callable) -> None:
    import pandas as pd

    folder = make_video("a.mp4").parent
    (folder / "b.mp4").write_bytes((folder / "a.mp4").read_bytes())
    (folder / "c.heic").touch()
    answer = run_cli("score", folder, "--metrics", "temporal_flickering", *places(tmp_path))
    assert answer.code == 0, answer.err
    assert "note: " in answer.err
    assert f"{folder}: left out 1 .heic" in answer.err
    assert "b.mp4 is the same file as" in answer.err
    scores = pd.read_csv(tmp_path / "run" / "scores.csv")
    assert list(scores.case) == ["a.mp4", "b.mp4"]
    assert scores.temporal_flickering.nunique() == 1
    table = json.loads((tmp_path / "run" / "table.json").read_text())
    assert table["estimates"][0]["n"] == 2


def test_one_video_is_scored_as_a_folder_of_one(run_cli: Callable, tmp_path: Path, make_video: Callable) -> None:
    import pandas as pd

    path = make_video("a.mp4")
    answer = run_cli("score", path, "--metrics", "temporal_flickering", *places(tmp_path))
    assert answer.code == 0, answer.err
    assert list(pd.read_csv(tmp_path / "run" / "scores.csv").case) == ["a.mp4"]


def test_videos_that_cannot_be_scored_are_refused_before_any_work(
    run_cli: Callable, tmp_path: Path, make_video: Callable
) -> None:
    store = ("--store", tmp_path / "store")
    folder = make_video("a.mp4").parent
    few = run_cli("score", folder, "--reference", folder, "--metrics", "pixel_distance_sprites", *store)
    assert "needs at least 64 real clips, and --reference holds 1" in few.err
    unwritable = run_cli("score", folder, "--output", "/proc/x/y", *store)
    assert "cannot write to /proc/x/y" in unwritable.err
    (folder / "c.mp4").symlink_to(folder / "gone.mp4")
    assert "c.mp4 is named like a video and is a broken link" in run_cli("score", folder, *store).err
    assert not (tmp_path / "store").exists()


def test_a_folder_without_videos_is_refused(run_cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    answer = run_cli("score", tmp_path, "--store", tmp_path / "store")
    assert answer.code == 2
    assert "no videos" in answer.err


def test_fewer_clips_than_a_set_metric_needs_is_refused(
    run_cli: Callable, make_video: Callable, tmp_path: Path
) -> None:
    folder = make_video().parent
    answer = run_cli("score", folder, "--reference", folder, "--metrics", "fvd", "--store", tmp_path / "store")
    assert answer.code == 2
    assert "needs at least" in answer.err
