"""Small copies of the layouts that data sets have on disk. The cache is the test's own folder."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

ACTIONS = ("ApplyEyeMakeup", "YoYo", "HandstandPushups")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STG_EVAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def avi(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """A real .avi as UCF-101 has them (MPEG-4 part 2, 25 fps), its content drawn from a seed."""
    folder = tmp_path_factory.mktemp("avi")

    def make(seed: int, num_frames: int = 4) -> bytes:
        path = folder / f"{seed}.avi"
        if not path.is_file():
            colour = np.random.default_rng(seed).integers(0, 256, 3)
            ramp = np.linspace(0.2, 1, 64)[None, :, None] * np.ones((48, 1, 1))
            with av.open(path, "w") as out:
                stream = out.add_stream("mpeg4", rate=Fraction(25))
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for t in range(num_frames):
                    frame = av.VideoFrame.from_ndarray((np.roll(ramp, 8 * t, 1) * colour).astype(np.uint8))
                    out.mux(stream.encode(frame))
                out.mux(stream.encode())
        return path.read_bytes()

    return make


@pytest.fixture
def ucf101(tmp_path: Path, avi: Callable[[int], bytes]) -> Callable[..., Path]:
    """UCF-101's two archives, extracted: `classes` classes with `videos` videos each, a third of them for testing."""

    def make(classes: int = 101, videos: int = 3) -> Path:
        root = tmp_path / "ucf"
        lists = root / "ucfTrainTestlist"
        lists.mkdir(parents=True)
        names = [ACTIONS[i] if i < len(ACTIONS) else f"Action{i:03d}" for i in range(classes)]
        (lists / "classInd.txt").write_text("".join(f"{i} {name}\r\n" for i, name in enumerate(names, 1)))
        train, test = [], []
        for i, name in enumerate(names):
            (root / "UCF-101" / name).mkdir(parents=True)
            for k in range(videos):
                file = f"{name}/v_{name}_g{k + 1:02d}_c01.avi"
                (root / "UCF-101" / file).write_bytes(avi(k % 3) if classes > 10 else avi(10 * i + k))
                train.append(f"{file} {i + 1}\n") if k % 3 else test.append(f"{file}\n")
        (lists / "trainlist01.txt").write_text("".join(train))
        (lists / "testlist01.txt").write_text("".join(test))
        return root

    return make


@pytest.fixture
def make_image(tmp_path: Path) -> Callable[..., Path]:
    """An image file with a plain colour that its seed gives."""

    def make(name: str, seed: int = 0, folder: Path | None = None) -> Path:
        path = (folder or tmp_path / "images") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 9), (seed % 256, seed // 256 % 256, 128)).save(path)
        return path

    return make
