"""What tests of the whole share: the command line in this process, and small real videos."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """`stg-eval ARGUMENTS` in this process: its exit code, stdout and stderr."""
    from stg_eval import cli

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["stg-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code
        out, err = capsys.readouterr()
        return Answer(code if isinstance(code, int) else int(code is not None), out, err)

    return call


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """A small moving clip on disk."""
    from stg_eval.video import write_video

    def make(name: str = "clip.mp4", *, num_frames: int = 8, seed: int = 0, folder: Path | None = None) -> Path:
        path = (folder or tmp_path / "videos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (32, 64, 3), dtype=np.uint8)
        frames = np.stack([np.roll(noise, 2 * t, axis=1) for t in range(num_frames)])
        write_video(path, frames, 8.0, "vp9-lossless")
        return path

    return make
