"""Mochi 1 preview: text to video. The card, the paper's presets with their published values, and loading. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from stg_eval.generators import Generator, ModelCard, Preset
from stg_eval.generators.diffusers_video import MEMORY_SETTINGS, Family, load_pipeline, text_arguments
from stg_eval.generators.guidance.costs import stack_cost
from stg_eval.generators.guidance.maps import MOCHI
from stg_eval.types import Guidance, JSONValue


def _published(iq: float, aq: float, ms: float, dd: float, tf: float) -> dict[str, float]:
    return {
        "imaging_quality": iq,
        "aesthetic_quality": aq,
        "motion_smoothness": ms,
        "dynamic_degree": dd,
        "temporal_flickering": tf,
    }


CARD = ModelCard(
    name="mochi",
    title="Mochi 1 preview",
    weights="genmo/mochi-1-preview@14be5fcea23095ed330cb214647916a451e38b6e",
    task="text-to-video",
    height=480,
    width=848,
    num_frames=163,
    fps=30.0,
    num_inference_steps=64,
    dtype="bfloat16",
    encoding="h264-crf17",
    batch_size=1,
    presets={
        "none": Preset(Guidance.parse("none")),
        "cfg": Preset(Guidance.parse("cfg4.5"), _published(0.524, 0.507, 0.985, 0.87, 0.976), "Table 1"),
        # index 35 as in the code of the paper's time, which counts from 0
        "stg": Preset(Guidance.parse("cfg4.5+stg-r[35]w1"), _published(0.628, 0.554, 0.988, 0.86, 0.978), "Table 1"),
        "stg-a": Preset(Guidance.parse("cfg4.5+stg-a[35]w2"), _published(0.555, 0.541, 0.987, 0.86, 0.976), "Table 3"),
        "seg": Preset(Guidance.parse("cfg4.5+seg[35]w1")),
    },
    settings=MEMORY_SETTINGS,
    tflops_per_pass=1668.0,
    first_layer=0,
    num_layers=48,
    licence="Apache-2.0",
)

SMOKE: dict[str, JSONValue] = {
    "weights": "random-weights(seed=0)",
    "dtype": "float32",
    "height": 128,
    "width": 128,
    "num_frames": 13,
    "num_inference_steps": 2,
}
"""Small and random, see `stg_eval.generators.smoke_settings`. VBench's networks see nothing below 121 pixels a side."""

FAMILY = Family(
    pipeline="MochiPipeline",
    layer_map=MOCHI,
    arguments=text_arguments,
    size_multiple=16,
    frames_multiple=6,
    min_steps=2,
    variants={"bfloat16": "bf16"},
)


def cost(guidance: Guidance) -> float:
    """Passes of the denoiser a step; see `stg_eval.generators.cost`."""
    return stack_cost(guidance, MOCHI, CARD.num_layers)


def load(*, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
    """See `stg_eval.generators.load`."""
    return load_pipeline(FAMILY, device=device, dtype=dtype, weights=weights, settings=settings)
