"""LTX-2 and 2.3: the engine under the vendor's settings is what the pipeline computes itself, at every step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from stg_eval import generators
from stg_eval.generators.guidance.combination import Combination
from stg_eval.generators.guidance.schedulers import replaced_methods
from stg_eval.terms import Moment
from stg_eval.types import Case, Guidance, Request, StgEvalError

MODEL = generators.get("ltx2")
BLOCK = {"ltx2": 29, "ltx23": 28}


def stg(ltx2: Any) -> dict[str, Any]:
    """What the pipeline calls the skip of the vendor's preset."""
    blocks = [BLOCK[ltx2.model.card.name]]
    return {"stg_scale": 1.0, "audio_stg_scale": 1.0, "spatio_temporal_guidance_blocks": blocks}


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
def ltx2(request: pytest.FixtureRequest) -> Any:
    torch.set_num_threads(1)
    model = generators.get(getattr(request, "param", "ltx2"))
    settings = model.card.settings
    loaded: Any = model.load(device="cpu", dtype="float32", weights="random-weights(seed=0)", settings=settings)
    loaded.pipeline.to(torch.float64)
    return loaded


def run(ltx2: Any, text: str, **native: Any) -> list[torch.Tensor]:
    """What the video's scheduler got at each step, then the last latents of video and audio. With `native` arguments
    the pipeline alone, else under the engine. A layer N is that of the vendor's preset."""
    text = text.replace("N", str(BLOCK[ltx2.model.card.name]))
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
                **{**ltx2.model.arguments(asked), **native},
                **{name: getattr(asked, name) for name in ("height", "width", "num_frames", "num_inference_steps")},
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            )
    assert len(seen) == 2
    return [*seen, made.frames, made.audio]


def distance(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("ltx2", "text"),
    [("ltx2", "cfg3+stg-a[N]w1+rescale0.7"), ("ltx2", "cfg1+stg-a[N]w1"), ("ltx23", "cfg3+stg-a[N]w1+rescale0.7")],
    ids=["the vendor's preset", "without CFG", "the vendor's preset for 2.3"],
    indirect=["ltx2"],
)
def test_the_engine_equals_the_pipeline_s_own_guidance_at_every_step(ltx2: Any, text: str) -> None:
    """CFG 3 and 7, the skip, modality guidance 3 and rescaling in x0 space, for video and audio."""
    found = run(ltx2, text)
    assert distance(found, run(ltx2, text, **stg(ltx2))) < 1e-9
    assert distance(found, run(ltx2, text.replace("+stg-a[N]w1", ""))) > 1e-3


def test_what_never_acts_is_bit_equal_to_the_pipeline_s_own_guidance(ltx2: Any) -> None:
    plain = run(ltx2, "cfg3", stg_scale=0.0)  # the pipeline alone
    for text in ("cfg3+stg-a[N]w0", "cfg3+stg-a[N]w1@s5-9+stg-r[N]u@s5-9+apg@s5-9+rescale0.7@s5-9"):
        assert all(torch.equal(a, b) for a, b in zip(run(ltx2, text), plain, strict=True))


def test_rescale_has_windows(ltx2: Any) -> None:
    """The first of two steps is rescaled: as where the pipeline is told so after it."""

    def stop(pipeline: Any, *_: Any) -> dict[str, Any]:
        pipeline._guidance_rescale = pipeline._audio_guidance_rescale = 0.0
        return {}

    found = run(ltx2, "cfg3+stg-a[N]w1+rescale0.7@0-0.5")
    told = run(ltx2, "cfg3+rescale0.7", **stg(ltx2), callback_on_step_end=stop)
    assert distance(found, told) < 1e-9
    assert torch.equal(found[0], run(ltx2, "cfg3+stg-a[N]w1+rescale0.7")[0])
    assert distance(found, run(ltx2, "cfg3+stg-a[N]w1+rescale0.7@0.5-1")) > 1e-3


def test_cfg_has_windows_and_lists(ltx2: Any) -> None:
    """Without CFG in the second step; modality guidance stays, which a step of the pipeline's loop cannot leave out."""

    def stop(pipeline: Any, *_: Any) -> dict[str, Any]:
        pipeline._guidance_scale = 1.0 + 1e-12  # which keeps both rows
        pipeline._audio_guidance_scale = 1.0
        return {}

    found = run(ltx2, "cfg3@0-0.5+rescale0.7")
    assert distance(found, run(ltx2, "cfg3+rescale0.7", callback_on_step_end=stop)) < 1e-9


@pytest.mark.parametrize("method", ["apg[norm=2]", 'guider:ClassifierFreeZeroStarGuidance{"zero_init_steps":1}'])
def test_other_combinations_take_the_place_of_cfg_in_both_streams(ltx2: Any, method: str) -> None:
    """Video at 3, sound at 7; modality guidance and rescaling stay. By hand: what CFG adds to c is what it does."""
    combine = Guidance.parse(f"cfg3+{method}").combine
    assert combine
    methods, stock, step = [Combination(combine), Combination(combine)], ltx2.pipeline.transformer.forward, [0]

    def forward(*args: Any, **kwargs: Any) -> Any:
        outputs = stock(*args, **kwargs)
        if kwargs["isolate_modalities"]:
            return outputs
        moment, answers = Moment(step[0], 2), []
        for sample, method, scale in zip(outputs, methods, (3, 7), strict=True):
            u, c = sample.chunk(2)
            whole = method(c, u, scale, moment, denoiser=ltx2.pipeline.transformer, run=lambda _: None)  # type: ignore[arg-type, return-value]
            answers.append(torch.cat([c - (whole - c) / (scale - 1), c]))
        step[0] += 1
        return tuple(answers)

    ltx2.pipeline.transformer.forward = forward
    try:
        by_hand = run(ltx2, "cfg3+rescale0.7", stg_scale=0.0)
    finally:
        del ltx2.pipeline.transformer.forward
    assert distance(run(ltx2, f"cfg3+{method}+rescale0.7"), by_hand) < 1e-9


def test_presets_are_the_vendor_s_and_costs_count_its_modality_pass() -> None:
    assert str(MODEL.card.presets["vendor"].guidance) == "cfg3+stg-a[29]w1+rescale0.7"
    assert dict(MODEL.card.settings) | {"modality_scale": 3.0, "audio_guidance_scale": 7.0} == MODEL.card.settings
    cost = {name: MODEL.cost(preset.guidance) for name, preset in MODEL.card.presets.items()}
    assert cost == {"none": 1, "cfg": 3, "stg": 3 + 19 / 48, "vendor": 3 + 19 / 48}
    counted = 2 * 1.206 + 1  # block 28 by benchmarks/guidance_flops.py, and the modality pass
    assert MODEL.cost(Guidance.parse("cfg3+stg-a[28]w1")) == pytest.approx(counted, rel=0.01)


@pytest.mark.parametrize("term", ["+fdg[low=1]", "+stg-i[29]w1", "+seg[29]w1", "+restart[0.1,0.5]x1"])
def test_what_two_streams_cannot_do_is_refused(term: str) -> None:
    with pytest.raises(StgEvalError, match=re.escape(f"cannot do {term[1:]}; leave it out")):
        MODEL.cost(Guidance.parse(f"cfg3{term}"))
    with pytest.raises(StgEvalError, match="together with CFG only"):
        MODEL.cost(Guidance.parse("cfg1+rescale0.7"))
