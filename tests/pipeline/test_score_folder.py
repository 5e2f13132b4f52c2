"""`stg-eval score`: what is taken, what is converted, what is refused, and that all of it is said, on every run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest


def write(path: Path, codec: str = "libx264", pix_fmt: str = "yuv420p", num_frames: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, pix_fmt
        for i in range(num_frames):
            pixels = np.random.default_rng([i, len(path.name)]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def score(run_cli: Callable, tmp_path: Path) -> Callable:
    def call(*arguments: object, metrics: str = "temporal_flickering") -> tuple[int, str, dict]:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        places = ("--store", tmp_path / "store", "--output", tmp_path / "run")
        answer = run_cli("score", *arguments, "--metrics", metrics, *places)
        record = tmp_path / "run" / "run.json"
        return answer.code, answer.err, json.loads(record.read_text()) if record.is_file() else {}

    return call


def test_every_kind_is_scored_and_conversions_are_said_on_every_run(score, tmp_path):
    write(tmp_path / "clips" / "plain.mp4")
    write(tmp_path / "clips" / "deep.mp4", pix_fmt="yuv420p10le")
    write(tmp_path / "clips" / "open.ts", "mpeg2video")
    write(tmp_path / "clips" / "clip.gif", "gif", "rgb8")
    write(tmp_path / "clips" / "clip.wmv", "wmv2")
    (tmp_path / "clips" / "notes.txt").touch()
    for _ in range(2):  # the second time every score is in the store
        code, err, record = score(tmp_path / "clips")
        assert code == 0, err
        assert [note.removeprefix(f"{tmp_path}/clips") for note in record["notes"]] == [
            ": left out 1 .txt",
            "/deep.mp4: 10 to 8 bits a channel",
            "/open.ts: nothing in the file shows where it ends, so it may have been cut",
        ]
        assert all(f"note: {note}" in err for note in record["notes"])
        assert "deep.mp4: 10 to 8 bits a channel" in (tmp_path / "run" / "report" / "index.html").read_text()
        assert record["missing"] == []


def test_strict_refuses_what_has_notes_although_its_score_is_in_the_store(score, tmp_path):
    write(tmp_path / "clips" / "plain.mp4")
    write(tmp_path / "clips" / "deep.mp4", pix_fmt="yuv420p10le")
    assert score(tmp_path / "clips")[0] == 0
    code, err, record = score(tmp_path / "clips", "--strict")
    assert code == 1
    assert "deep.mp4: 10 to 8 bits a channel; leave out --strict to take it" in err
    assert [one["case"] for one in record["missing"]] == ["deep.mp4"]
    scores = pd.read_csv(tmp_path / "run" / "scores.csv").set_index("case").temporal_flickering
    assert np.isnan(scores["deep.mp4"])
    assert scores["plain.mp4"] > 0


@pytest.mark.parametrize("reader", ["pyav", "decord"])
def test_a_reference_clip_that_was_cut_or_is_refused_stops_the_run(score, tmp_path, reader):
    if reader == "decord":
        pytest.importorskip("decord")
    for folder in ("clips", "real"):
        path = write(tmp_path / folder / "a.mkv")
        for i in range(63):
            shutil.copyfile(path, path.with_name(f"{i}.mkv"))
    cut = tmp_path / "real" / "0.mkv"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    arguments = (tmp_path / "clips", "--reference", tmp_path / "real", "--reader", reader)
    code, err, _ = score(*arguments, metrics="pixel_distance_sprites")
    assert code == 2
    assert "a reference clip cannot be used: " in err
    assert "0.mkv: cut: its segment goes on for" in err
    write(cut, pix_fmt="yuv420p10le")
    code, err, _ = score(*arguments, "--strict", metrics="pixel_distance_sprites")
    assert code == 2
    assert "0.mkv: 10 to 8 bits a channel" in err
