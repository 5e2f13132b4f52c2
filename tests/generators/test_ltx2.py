"""LTX-2: the engine under its vendor's settings is what its own pipeline computes with its arguments, at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from stg_eval import generators
from stg_eval.generators.guidance.schedulers import replaced_methods
from stg_eval.types import Case, Guidance, Request, StgEvalError

MODEL = generators.get("ltx2")
STG = {"stg_scale": 1.0, "audio_stg_scale": 1.0, "spatio_temporal_guidance_blocks": [29]}
"""What the pipeline calls ``stg-a[29]w1``."""


class Widened(TorchFunctionMode):
    """Whatever is cast to float32, or made as float32, is float64 instead: the pipeline casts its predictions."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        def wide(x: Any) -> Any:
            return torch.float64 if x is torch.float32 else x

        function = torch.Tensor.double if function is torch.Tensor.float else function
        out = function(*map(wide, args), **{k: wide(v) for k, v in (kwargs or {}).items()})
        return out.double() if isinstance(out, torch.Tensor) and out.dtype is torch.float32 else out


@pytest.fixture(scope="module")
def ltx2() -> Any:
    torch.set_num_threads(1)
    settings = MODEL.card.settings
    loaded: Any = MODEL.load(device="cpu", dtype="float32", weights="random-weights(seed=0)", settings=settings)
    loaded.pipeline.to(torch.float64)
    return loaded


def run(ltx2: Any, text: str, **native: Any) -> list[torch.Tensor]:
    """What the video's scheduler got at each step, then the last latents of video and audio. With `native` arguments
    the pipeline alone, else under the engine."""
    asked = Request(
        model="ltx2",
        weights="random-weights(seed=0)",
        guidance=Guidance.parse(text),
        case=Case(id="x", prompt="a red ball"),
        seed=0,
        height=64,
        width=64,
        num_frames=9,
        fps=24.0,
        num_inference_steps=2,
        dtype="float32",
        encoding="h264-crf17",
        settings=tuple(sorted(MODEL.card.settings.items())),
    )
    seen: list[torch.Tensor] = []
    with Widened(), nullcontext() if native else ltx2._guided(asked):
        step = ltx2.pipeline.scheduler.step

        def watched(output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            seen.append(output.clone())
            return step(output, *args, **kwargs)

        with replaced_methods(ltx2.pipeline.scheduler, step=watched):
            made = ltx2.pipeline(
                **{**MODEL.arguments(asked), **native},  # type: ignore[attr-defined]
                **{name: getattr(asked, name) for name in ("height", "width", "num_frames", "num_inference_steps")},
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            )
    assert len(seen) == 2
    return [*seen, made.frames, made.audio]


def distance(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "text", ["cfg3+stg-a[29]w1+rescale0.7", "cfg1+stg-a[29]w1"], ids=["the vendor's preset", "without CFG"]
)
def test_the_engine_equals_the_pipeline_s_own_guidance_at_every_step(ltx2: Any, text: str) -> None:
    """CFG 3 and 7, the skip, modality guidance 3 and rescaling in x0 space, for video and audio."""
    found = run(ltx2, text)
    assert distance(found, run(ltx2, text, **STG)) < 1e-9
    assert distance(found, run(ltx2, text.replace("+stg-a[29]w1", ""))) > 1e-3


def test_a_skip_outside_its_window_is_bit_equal_to_plain_guidance(ltx2: Any) -> None:
    plain = run(ltx2, "cfg3+rescale0.7", stg_scale=0.0)  # the pipeline alone
    found = run(ltx2, "cfg3+stg-a[29]w1@s5-9+rescale0.7")
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_presets_are_the_vendor_s_and_costs_count_its_modality_pass() -> None:
    assert str(MODEL.card.presets["vendor"].guidance) == "cfg3+stg-a[29]w1+rescale0.7"
    assert dict(MODEL.card.settings) | {"modality_scale": 3.0, "audio_guidance_scale": 7.0} == MODEL.card.settings
    cost = {name: MODEL.cost(preset.guidance) for name, preset in MODEL.card.presets.items()}
    assert cost == {"none": 1, "cfg": 3, "stg": 3 + 19 / 48, "vendor": 3 + 19 / 48}
    counted = 2 * 1.206 + 1  # block 28 by benchmarks/guidance_flops.py, and the modality pass
    assert MODEL.cost(Guidance.parse("cfg3+stg-a[28]w1")) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("term", ["+apg", "+stg-i[29]w1", "+seg[29]w1", "+rescale0.7@0-0.5", "+restart[0.1,0.5]x1"])
def test_what_two_streams_cannot_do_is_refused(term: str) -> None:
    with pytest.raises(StgEvalError, match="ltx2 takes cfg, stg-a, stg-r, auto, and rescale"):
        MODEL.cost(Guidance.parse(f"cfg3{term}"))
    with pytest.raises(StgEvalError, match="together with CFG only"):
        MODEL.cost(Guidance.parse("cfg1+rescale0.7"))
