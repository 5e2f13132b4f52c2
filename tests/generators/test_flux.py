"""First frames for image-to-video suites, drawn by a small random FLUX pipeline."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from stg_eval.generators.flux import first_frames
from stg_eval.types import Case, StgEvalError

SMALL = {
    "device": "cpu",
    "weights": "random-weights(seed=0)",
    "dtype": "float32",
    "height": 32,
    "width": 48,
    "num_inference_steps": 1,
}


def test_every_case_gets_a_frame_of_its_prompt_and_none_is_drawn_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [Case(id="a", prompt="a red ball"), Case(id="b", prompt="a blue cat"), Case(id="c", prompt="a red ball")]
    found = first_frames(cases, tmp_path, **SMALL)  # type: ignore[arg-type]
    assert [case.id for case in found] == ["a", "b", "c"]
    files = [Path(case.image or "") for case in found]
    assert all(Image.open(file).size == (48, 32) for file in files)
    assert [case.image_sha256 for case in found] == [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
    assert files[0] == files[2] != files[1]
    assert sorted(tmp_path.iterdir()) == sorted(set(files))

    files[1].unlink()  # an interrupted call: the missing one alone is drawn, and is the same
    kept = files[0].stat().st_mtime_ns
    assert first_frames(cases, tmp_path, **SMALL) == found  # type: ignore[arg-type]
    assert files[0].stat().st_mtime_ns == kept
    monkeypatch.setattr("stg_eval.generators.flux._draw", None)
    assert first_frames(cases, tmp_path, **SMALL) == found  # type: ignore[arg-type]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StgEvalError, match="has no prompt"):
        first_frames([Case(id="a")], tmp_path, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(StgEvalError, match="divisible by 16"):
        first_frames([Case(id="a", prompt="x")], tmp_path, **{**SMALL, "width": 50})  # type: ignore[arg-type]
