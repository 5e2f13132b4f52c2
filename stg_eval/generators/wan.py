"""Wan 2.1 1.3B: text to video. Not in the paper's tables; the card, presets and loading. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from stg_eval.generators import Generator, ModelCard, Preset
from stg_eval.generators.diffusers_video import MEMORY_SETTINGS, Family, load_pipeline, text_arguments
from stg_eval.generators.guidance.costs import stack_cost
from stg_eval.generators.guidance.maps import WAN
from stg_eval.types import Guidance, JSONValue

CARD = ModelCard(
    name="wan",
    title="Wan 2.1 1.3B",
    weights="Wan-AI/Wan2.1-T2V-1.3B-Diffusers@0fad780a534b6463e45facd96134c9f345acfa5b",
    task="text-to-video",
    height=480,
    width=832,
    num_frames=81,
    fps=16.0,
    num_inference_steps=50,
    dtype="bfloat16",
    encoding="h264-crf17",
    batch_size=1,
    presets={
        "none": Preset(Guidance.parse("none")),
        "cfg": Preset(Guidance.parse("cfg5")),
        "stg": Preset(Guidance.parse("cfg5+stg-a[8]w1"), source="layer 8 as in the public Wan pipeline"),
    },
    settings=MEMORY_SETTINGS,
    tflops_per_pass=283.0,
    num_layers=30,
    licence="Apache-2.0",
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

FAMILY = Family(
    pipeline="WanPipeline",
    layer_map=WAN,
    arguments=text_arguments,
    size_multiple=16,
    frames_multiple=4,
    batch_order="c,u",
    float32=("vae",),  # as the model card asks
)


def cost(guidance: Guidance) -> float:
    """Passes of the denoiser a step; see `stg_eval.generators.cost`."""
    return stack_cost(guidance, WAN, CARD.num_layers)


def load(*, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
    """See `stg_eval.generators.load`."""
    return load_pipeline(FAMILY, device=device, dtype=dtype, weights=weights, settings=settings)
