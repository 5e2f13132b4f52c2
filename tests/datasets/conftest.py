"""What tests of data sets share: UCF-101 and images in the test's own folder, which holds the cache too."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def ucf101(tmp_path: Path, ucf101_at: Callable[..., Path]) -> Callable[..., Path]:
    """UCF-101 in the test's own folder."""
    return partial(ucf101_at, tmp_path / "ucf")


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[..., Path]:
    """An image file with a plain colour that its seed gives."""

    def make(name: str, seed: int = 0, folder: Path | None = None) -> Path:
        path = (folder or tmp_path / "images") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 9), (seed % 256, seed // 256 % 256, 128)).save(path)
        return path

    return make
