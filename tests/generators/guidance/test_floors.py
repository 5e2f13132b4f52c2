"""What guidance costs at full size: the engine's FLOPs and the plan's passes against a floor worked out by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stg_eval import generators
from stg_eval.types import Guidance

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "guidance_flops.py"


def attention(queries: int, keys: int, width: int) -> int:
    """FLOPs of softmax(q k) v, without projections."""
    return 4 * queries * keys * width


def wan14b() -> tuple[int, int]:
    """A block, and what is left of it where self-attention is the identity. 81 frames, 480 x 832."""
    n, text, d, mlp = 21 * 30 * 52, 512, 5120, 13824
    cross = 4 * n * d * d + 4 * text * d * d + attention(n, text, d)
    block = 8 * n * d * d + attention(n, n, d) + cross + 4 * n * d * mlp
    return block, block - 4 * n * d * d - attention(n, n, d)  # values and output stay, queries and keys go


def ltx2() -> tuple[int, int]:
    """121 frames, 512 x 768: video of width 4096 and sound of 2048, which attend to each other in 2048."""
    n, sound, text, d, s = 16 * 16 * 24, 126, 1024, 4096, 2048

    def stream(n: int, d: int) -> int:  # self-attention, text, MLP
        itself = 8 * n * d * d + attention(n, n, d)
        return itself + 4 * n * d * d + 4 * text * d * d + attention(n, text, d) + 16 * n * d * d

    between = 8 * n * d * s + 8 * sound * s * s + 2 * attention(n, sound, s)
    block = stream(n, d) + stream(sound, s) + between
    identity = sum(4 * n * d * d + attention(n, n, d) for n, d in ((n, d), (sound, s)))
    return block, block - identity


def hunyuan() -> tuple[int, int]:
    """129 frames, 720 x 1280; the blocks of both kinds cost the same: 24 n d^2 and attention over video and text."""
    n, d = 33 * 45 * 80 + 256, 3072
    return 24 * n * d * d + attention(n, n, d), 0


def hunyuan15() -> tuple[int, int]:
    """121 frames, 480 x 848, and 1985 tokens of text and images."""
    n, d = 31 * 30 * 53 + 1985, 2048
    return 24 * n * d * d + attention(n, n, d), 0


def cogvideox() -> tuple[int, int]:
    """49 frames, 480 x 720; under identity attention a video token attends to itself and to the text."""
    n, text, d = 13 * 30 * 45, 226, 3072
    both = n + text
    block = 24 * both * d * d + attention(both, both, d)
    return block, block - attention(both, both, d) + attention(n, text + 1, d) + attention(text, both, d)


ROWS: list[tuple[str, str, Any, int, float]] = [
    # case of the benchmark, model, floor, layers, passes beside CFG and skip
    ("ltx2-stg-a-28", "ltx2", ltx2, 48, 1),  # modality guidance
    ("ltx23-stg-a-28", "ltx23", ltx2, 48, 1),
    ("wan14b-stg-a-8", "wan14b", wan14b, 40, 0),
    ("wan14b-slg-9", "wan14b", wan14b, 40, 0),
    ("hunyuan-stg-r-2", "hunyuan", hunyuan, 60, 0),
    ("hunyuan15-stg-r-2", "hunyuan15", hunyuan15, 54, 0),
    ("cogvideox-stg-a-11", "cogvideox", cogvideox, 42, 0),
    ("cogvideox-i2v-stg-a-11", "cogvideox-i2v", cogvideox, 42, 0),
]


def floor(block: int, skipped: int, layers: int, place: int, guidance: Guidance) -> float:
    """A step's FLOPs over CFG's, counting blocks alone: the unconditional pass without a block, or a weak pass from the
    skipped one on."""
    if guidance.skips[0].unconditional:
        return 1 - block / (2 * layers * block)
    return 1 + (skipped + (layers - 1 - place) * block) / (2 * layers * block)


@pytest.fixture(scope="module")
def flops() -> Any:
    spec = importlib.util.spec_from_file_location("guidance_flops", BENCHMARK)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its dataclass looks
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "model", "by_hand", "layers", "more"), ROWS, ids=[row[0] for row in ROWS])
def test_plans_count_the_floor_worked_out_by_hand(
    flops: Any, name: str, model: str, by_hand: Any, layers: int, more: float
) -> None:
    guidance = Guidance.parse(next(case for case in flops.CASES if case.name == name).guidance)
    place = int(guidance.layers[0])
    planned = (generators.get(model).cost(guidance) - more) / 2
    assert planned == pytest.approx(floor(*by_hand(), layers, place, guidance), rel=0.01)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [(name, by_hand) for name, _, by_hand, _, _ in ROWS if name not in ("ltx23-stg-a-28", "cogvideox-stg-a-11")],
)
def test_the_engine_computes_the_floor_worked_out_by_hand(flops: Any, name: str, by_hand: Any) -> None:
    """Counted with the first six blocks of full width, the middle one skipped; the benchmark counts them all."""
    case = next(case for case in flops.CASES if case.name == name)
    text = case.guidance.replace(f"[{Guidance.parse(case.guidance).layers[0]}]", "[3]")
    guidance = Guidance.parse(text)
    with torch.device("meta"):
        network = case.model().eval()
        for blocks in ("transformer_blocks", "blocks"):
            if hasattr(network, blocks):
                setattr(network, blocks, getattr(network, blocks)[:6])
        if hasattr(network, "single_transformer_blocks"):
            network.single_transformer_blocks = nn.ModuleList()
        found = flops.flops(network, case, guidance) / flops.flops(network, case, Guidance(cfg_scale=3))
    assert found == pytest.approx(floor(*by_hand(), 6, 3, guidance), rel=0.01)
