"""CogVideoX-5B: text to video. Not in the paper's tables; the card, presets and loading. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from stg_eval.generators import Generator, ModelCard, Preset
from stg_eval.generators.diffusers_video import MEMORY_SETTINGS, Family, load_pipeline, text_arguments
from stg_eval.generators.guidance.costs import stack_cost
from stg_eval.generators.guidance.maps import COGVIDEOX
from stg_eval.types import Guidance, JSONValue

CARD = ModelCard(
    name="cogvideox",
    title="CogVideoX-5B",
    weights="THUDM/CogVideoX-5b@8d6ea3f817438460b25595a120f109b88d5fdfad",
    task="text-to-video",
    height=480,
    width=720,
    num_frames=49,
    fps=8.0,
    num_inference_steps=50,
    dtype="bfloat16",
    encoding="h264-crf17",
    batch_size=1,
    presets={
        "none": Preset(Guidance.parse("none")),
        "cfg": Preset(Guidance.parse("cfg6")),
        "stg": Preset(Guidance.parse("cfg6+stg-a[11]w1"), source="layer 11 as in the public CogVideoX pipeline"),
    },
    settings=MEMORY_SETTINGS,
    tflops_per_pass=332.2,
    num_layers=42,
    licence="CogVideoX License",
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
    pipeline="CogVideoXPipeline",
    layer_map=COGVIDEOX,
    arguments=text_arguments,
    size_multiple=16,
    frames_multiple=8,  # the VAE decodes two latent frames, eight of the clip, at a time
)


def cost(guidance: Guidance) -> float:
    """Passes of the denoiser a step; see `stg_eval.generators.cost`."""
    return stack_cost(guidance, COGVIDEOX, CARD.num_layers)


def load(*, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
    """See `stg_eval.generators.load`."""
    return load_pipeline(FAMILY, device=device, dtype=dtype, weights=weights, settings=settings)
