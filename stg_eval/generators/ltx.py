"""LTX-Video: text to video. Not in the paper's tables; the card, presets and loading. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stg_eval.generators import Generator, ModelCard, Preset
from stg_eval.generators.diffusers_video import MEMORY_SETTINGS, Family, load_pipeline, text_arguments
from stg_eval.generators.guidance.costs import stack_cost
from stg_eval.generators.guidance.maps import LTX
from stg_eval.types import Guidance, JSONValue, Request

CARD = ModelCard(
    name="ltx",
    title="LTX-Video",
    weights="Lightricks/LTX-Video@8984fa25007f376c1a299016d0957a37a2f797bb",
    task="text-to-video",
    height=512,
    width=704,
    num_frames=161,
    fps=25.0,
    num_inference_steps=50,
    dtype="bfloat16",
    encoding="h264-crf17",
    batch_size=1,
    presets={
        "none": Preset(Guidance.parse("none")),
        "cfg": Preset(Guidance.parse("cfg3")),
        "stg": Preset(Guidance.parse("cfg3+stg-a[19]w1"), source="layer 19 as in the public LTX pipelines"),
    },
    settings=MEMORY_SETTINGS,
    tflops_per_pass=37.2,
    num_layers=28,
    licence="LTX-Video Open Weights License",
)

SMOKE: dict[str, JSONValue] = {
    "weights": "random-weights(seed=0)",
    "dtype": "float32",
    "height": 128,
    "width": 128,
    "num_frames": 17,
    "num_inference_steps": 2,
}
"""Small and random, see `stg_eval.generators.smoke_settings`."""


def arguments(request: Request) -> dict[str, Any]:
    """LTX also sees the frame rate."""
    return {**text_arguments(request), "frame_rate": request.fps}


FAMILY = Family(
    pipeline="LTXPipeline",
    layer_map=LTX,
    arguments=arguments,
    size_multiple=32,
    frames_multiple=8,
)


def cost(guidance: Guidance) -> float:
    """Passes of the denoiser a step; see `stg_eval.generators.cost`."""
    return stack_cost(guidance, LTX, CARD.num_layers)


def load(*, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
    """See `stg_eval.generators.load`."""
    return load_pipeline(FAMILY, device=device, dtype=dtype, weights=weights, settings=settings)
