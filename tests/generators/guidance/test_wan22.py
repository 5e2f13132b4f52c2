"""Wan 2.2's two transformers on both sides of their boundary, and Wan's skip-layer guidance by its public rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from stg_eval import generators
from stg_eval.generators.guidance import guided
from stg_eval.types import Guidance

from .conftest import Widened  # type: ignore[import-not-found]

TOLERANCE = 1e-9
BOUNDARY = 0.875


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Any]:
    found = {}
    for name in ("wan", "wan22"):
        pipeline = generators.get(name).open(dtype="float32", weights="random-weights(seed=0)", settings={})
        for transformer in filter(None, (pipeline.transformer, pipeline.transformer_2)):
            transformer.blocks = transformer.blocks[:11]  # the layers that are tried, and no more to wait for
        found[name] = pipeline.to(torch.float64)
        pipeline.set_progress_bar_config(disable=True)
    return found


def run(pipeline: Any, text: str, *, engine: bool, steps: int = 4, **call: Any) -> torch.Tensor:
    guidance, model = Guidance.parse(text), generators.get("wan22")
    context: Any = nullcontext()
    if engine:
        context = guided(
            [t for t in (pipeline.transformer, pipeline.transformer_2) if t is not None],
            guidance,
            model.layer_map,
            batch_order="c,u",
            scheduler=pipeline.scheduler,
        )
    with Widened(), context:
        return pipeline(
            prompt="a red ball",
            negative_prompt="blurred",
            height=32,
            width=48,
            num_frames=5,
            num_inference_steps=steps,
            output_type="latent",
            generator=torch.Generator().manual_seed(0),
            **({"guidance_scale": guidance.cfg_scale} | call),
        ).frames


def sides(pipeline: Any, steps: int) -> list[bool]:
    pipeline.scheduler.set_timesteps(steps)
    return [float(t) >= BOUNDARY * 1000 for t in pipeline.scheduler.timesteps]


def test_the_scales_of_both_sides_equal_the_pipeline_s_own(pipelines: dict[str, Any]) -> None:
    pipe = pipelines["wan22"]
    assert {True, False} == set(sides(pipe, 4))
    own = run(pipe, "cfg4", engine=False, guidance_scale_2=3.0)
    ours = run(pipe, f"cfg4,3@n1-{BOUNDARY}-0", engine=True)
    assert (ours - own).abs().max() < TOLERANCE
    assert (run(pipe, "cfg4", engine=False) - own).abs().max() > 1e-4


@contextmanager
def values_only(attention: Any) -> Iterator[None]:
    stock = attention.processor
    attention.processor = lambda attn, hidden_states, *_, **__: attn.to_out[0](attn.to_v(hidden_states))
    try:
        yield
    finally:
        attention.processor = stock


def test_stg_acts_on_both_transformers(pipelines: dict[str, Any]) -> None:
    """Against a full third pass in each of the two, put together by hand."""
    pipe, seen, stock = pipelines["wan22"], {}, {}

    def watch(name: str) -> Callable[..., Any]:
        model = getattr(pipe, name)
        stock[name] = model.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            (out,) = stock[name](*args, **kwargs)
            if "c" not in seen:
                seen["c"] = out
                with values_only(model.blocks[8].attn1):
                    seen["p"] = stock[name](*args, **kwargs)[0]
                return (out,)
            c, p = seen.pop("c"), seen.pop("p")
            return ((out * (1 - 4) + 4 * c + 1.5 * (c - p) - 4 * c) / (1 - 4),)  # so that u + 4 (c - u) is the sum

        return forward

    for name in ("transformer", "transformer_2"):
        getattr(pipe, name).forward = watch(name)
    try:
        by_hand = run(pipe, "cfg4", engine=False)
    finally:
        for name in ("transformer", "transformer_2"):
            del getattr(pipe, name).forward
    ours = run(pipe, "cfg4+stg-a[8]w1.5", engine=True)
    assert (ours - by_hand).abs().max() < TOLERANCE


def test_rescale_sees_the_transformer_that_is_at_work(pipelines: dict[str, Any]) -> None:
    pipe = pipelines["wan22"]
    step, seen = pipe.scheduler.step, {}
    stocks = {name: getattr(pipe, name).forward for name in ("transformer", "transformer_2")}

    def remember(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            out = forward(*args, **kwargs)
            seen.setdefault("c", out[0])
            return out

        return call

    def rescaled(model_output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        ratio = seen.pop("c").std() / model_output.std()
        return step(model_output * (0.7 * ratio + 0.3), *args, **kwargs)

    for name, forward in stocks.items():
        getattr(pipe, name).forward = remember(forward)
    pipe.scheduler.step = rescaled
    try:
        by_hand = run(pipe, "cfg4", engine=False)
    finally:
        del pipe.scheduler.step
        for name in stocks:
            del getattr(pipe, name).forward
    assert (run(pipe, "cfg4+rescale0.7", engine=True) - by_hand).abs().max() < TOLERANCE


@pytest.mark.parametrize(("layer", "start", "stop"), [(9, 0.1, 0.9), (10, 0.2, 1.0)])
def test_skip_layer_guidance_equals_the_public_rule(
    pipelines: dict[str, Any], layer: int, start: float, stop: float
) -> None:
    """A block is left out of the unconditional pass while start <= step / steps < stop; the rest is CFG."""
    pipe, steps, calls = pipelines["wan"], 10, [0]
    stock, block = pipe.transformer.forward, pipe.transformer.blocks[layer]

    def forward(*args: Any, **kwargs: Any) -> Any:
        step, unconditional = divmod(calls[0], 2)
        calls[0] += 1
        if not (unconditional and start <= step / steps < stop):
            return stock(*args, **kwargs)
        block.forward = lambda hidden_states, *_, **__: hidden_states
        try:
            return stock(*args, **kwargs)
        finally:
            del block.forward

    pipe.transformer.forward = forward
    try:
        by_rule = run(pipe, "cfg5", engine=False, steps=steps)
    finally:
        del pipe.transformer.forward
    ours = run(pipe, f"cfg5+stg-r[{layer}]u@{start}-{stop}", engine=True, steps=steps)
    assert (ours - by_rule).abs().max() < TOLERANCE
    assert (run(pipe, "cfg5", engine=False, steps=steps) - by_rule).abs().max() > 1e-6
