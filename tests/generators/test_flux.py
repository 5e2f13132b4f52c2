"""First frames for image-to-video suites, drawn by a small random FLUX pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def test_what_changes_pixels_is_in_a_frame_s_name_and_nothing_else(tmp_path: Path) -> None:
    def name(**changes: object) -> str:
        (case,) = first_frames([Case(id="a", prompt="x")], tmp_path, **(SMALL | changes))  # type: ignore[arg-type]
        return Path(str(case.image)).name

    plain = name()
    different = {name(seed=1), name(guidance_scale=2.0), name(vae_tiling=True), name(height=48)}
    assert len(different | {plain}) == 5


def test_the_verb_takes_every_setting(run_cli: Callable, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red ball\n")

    def draw(*changes: str) -> Any:
        settings = [f"{key}={value}" for key, value in SMALL.items() if key != "device"]
        options = [part for setting in (*settings, *changes) for part in ("--set", setting)]
        return run_cli("first-frames", prompts, tmp_path / "frames", "--device", "cpu", *options)

    answer = draw("seed=3", "guidance_scale=2", "offload=none")
    assert answer.code == 0, answer.err
    file, prompt = answer.out.strip().split("\t")
    assert (Image.open(file).size, prompt) == ((48, 32), "a red ball")
    for change, message in (
        ("steps=3", "FLUX.1 has no setting 'steps'"),
        ("heigth=64", "did you mean 'height'"),
        ("width=wide", "width=wide does not fit"),
        ("height=0", "divisible by 16, not 0x48"),
        ("num_inference_steps=0", "a step at least"),
    ):
        refused = draw(change)
        assert (refused.code, refused.out) == (2, "")
        assert message in refused.err
    assert "FLUX.1 [dev], for" in " ".join(run_cli("first-frames", "--help").out.split())


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StgEvalError, match="has no prompt"):
        first_frames([Case(id="a")], tmp_path, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(StgEvalError, match="divisible by 16"):
        first_frames([Case(id="a", prompt="x")], tmp_path, **{**SMALL, "width": 50})  # type: ignore[arg-type]
