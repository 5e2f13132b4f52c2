"""What the VBench tests share: golden values, small clips, and the scoring loop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks gain nothing from more, and the last bits of some sums depend on it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """Inputs and the values that the reference implementation returned for them."""

    def read(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return dict(np.load(GOLDEN / f"{name}.npz")), json.loads((GOLDEN / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory) -> Callable[..., Path]:
    """A textured plane that slides `speed` pixels a frame, as an H.264 mp4."""
    from stg_eval.storage.video import write_video

    folder = tmp_path_factory.mktemp("clips")

    def make(
        num_frames: int = 6, height: int = 128, width: int = 144, fps: float = 8, speed: int = 3, seed: int = 0
    ) -> Path:
        path = folder / f"{num_frames}-{height}-{width}-{fps}-{speed}-{seed}.mp4"
        if not path.exists():
            rng, travel = np.random.default_rng(seed), speed * num_frames
            coarse = rng.uniform(0, 255, ((height + travel) // 8 + 1, (width + travel) // 8 + 1, 3))
            plane = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
            starts = [speed * i for i in range(num_frames)]
            frames = np.stack([plane[s : s + height, s : s + width] for s in starts])
            write_video(path, frames, fps, "h264-crf17")
        return path

    return make


@pytest.fixture(scope="session")
def score() -> Callable[[Any, Path], float]:
    """A scorer's value for one file, through the scoring loop."""
    from stg_eval.metrics.decoding import score_clips

    def run(scorer: Any, path: Path) -> float:
        (outcome,) = score_clips([(path, None)], {"it": scorer}, {})
        assert outcome.problems == {}, outcome.problems
        return outcome.values["it"]

    return run


@pytest.fixture(scope="session")
def vocabulary() -> Any:
    """CLIP's byte pairs, the file that openai-clip carries."""
    from stg_eval.weights import Checkpoint

    clip = pytest.importorskip("clip")
    return Checkpoint(Path(clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", "0" * 64)


@pytest.fixture(scope="session")
def save_random(tmp_path_factory) -> Callable[..., Any]:
    """A network's random tensors, large enough to tell clips apart, saved as a checkpoint; `wrap` shapes the file."""
    import torch

    from stg_eval.weights import Checkpoint

    folder = tmp_path_factory.mktemp("random")

    def save(name: str, network: Any, wrap: Callable[[Any], Any] = lambda state: state, seed: int = 0) -> Checkpoint:
        generator = torch.Generator().manual_seed(seed)
        state = {
            key: value + 0.05 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
            for key, value in network.state_dict().items()
        }
        torch.save(wrap(state), folder / name)
        return Checkpoint(folder / name, "0" * 64)

    return save


SIZES = [
    {"num_frames": 2, "height": 120, "width": 160},
    {"num_frames": 16, "height": 96, "width": 170, "seed": 1},
    {"num_frames": 9, "height": 240, "width": 246, "seed": 2},
    {"num_frames": 49, "height": 62, "width": 50, "seed": 3, "speed": 1},
]
"""Clips of several lengths and shapes, among them one that becomes 224 x 229, nearly a square."""


OWN = os.environ.get("STG_EVAL_PARITY", "")
"""Folder with clips of one's own, on which every dimension is compared too; see benchmarks/vbench_parity.py."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with `clip_path` runs on each of SIZES, or of its mark `clips`, and on each clip of one's own."""
    if "clip_path" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("clips")
        clips = [*(mark.args if mark else SIZES), *(sorted(Path(OWN).glob("*.mp4")) if OWN else ())]
        names = [c.stem if isinstance(c, Path) else "-".join(map(str, c.values())) for c in clips]
        metafunc.parametrize("clip_path", clips, indirect=True, ids=names)


@pytest.fixture
def clip_path(request, make_clip) -> Path:
    return request.param if isinstance(request.param, Path) else make_clip(**request.param)


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """Two scores of one clip agree; on clips of one's own it is noted how well."""

    def check(dimension: str, clip: Path, official: float, ours: float, tolerance: float) -> None:
        if OWN:
            with (Path(OWN) / "scores.csv").open("a", encoding="utf-8") as file:
                own = clip.stem if clip.parent == Path(OWN) else f"test's {clip.stem}"
                print(dimension, own, repr(float(official)), repr(float(ours)), tolerance, sep=",", file=file)
        assert ours == pytest.approx(float(official), abs=tolerance, rel=0, nan_ok=True), dimension

    return check


@pytest.fixture(scope="session")
def score_case() -> Callable[[Any, Path, str], float]:
    """A scorer's value for one file and its prompt, through the scoring loop."""
    from stg_eval.metrics.decoding import score_clips
    from stg_eval.types import Case

    def run(scorer: Any, path: Path, prompt: str) -> float:
        (outcome,) = score_clips([(path, Case(id="x", prompt=prompt))], {"it": scorer}, {})
        assert outcome.problems == {}, outcome.problems
        return outcome.values["it"]

    return run


@pytest.fixture(scope="session")
def clip_b32(official, tmp_path_factory) -> Any:
    """A narrow, shallow CLIP as OpenAI publishes ViT-B-32.pt: a TorchScript archive with half-precision tensors."""
    import torch

    from stg_eval.weights import Checkpoint

    official("appearance_style")
    model = pytest.importorskip("clip.model")
    torch.manual_seed(0)
    network = model.CLIP(96, 224, 2, 64, 32, 77, 49408, 64, 1, 2).eval()
    for value in network.parameters():
        value.data += 0.05 * torch.randn_like(value)
    inputs = torch.zeros(1, 3, 224, 224), torch.ones(1, 77, dtype=torch.int64)
    archive = torch.jit.trace(network, inputs, check_trace=False).half()
    path = tmp_path_factory.mktemp("clip") / "ViT-B-32.pt"
    torch.jit.save(archive, path)
    return Checkpoint(path, "0" * 64)
