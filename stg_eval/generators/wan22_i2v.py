"""Wan 2.2 A14B: image to video by two transformers, one for high noise and one for low. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stg_eval.generators import wan, wan22
from stg_eval.generators.diffusers_video import text_arguments
from stg_eval.generators.first_frame import first_frame
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import Preset
from stg_eval.types import Guidance, Request
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="wan22-i2v",
    needed_by="model wan22-i2v",
    licence="Apache-2.0",
    size=126_000_000_000,
    repo="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    files=wan22.CHECKPOINT.files,
)


def arguments(request: Request) -> dict[str, Any]:
    """Return text, and the first frame."""
    fit = str(dict(request.settings).get("image_fit", "stretch"))
    return {**text_arguments(request), "image": first_frame(request, fit)}


def small() -> Any:
    """See `DiffusersModel.small`. The transformers see latents, the first frame's latents and its mask."""
    from diffusers import WanImageToVideoPipeline

    parts = wan.small(num_layers=40, second=True, in_channels=36).components
    return WanImageToVideoPipeline(**parts, boundary_ratio=0.9)


MODEL = replace(
    wan22.MODEL,
    card=replace(
        wan22.MODEL.card,
        name="wan22-i2v",
        title="Wan 2.2 A14B I2V",
        weights=CHECKPOINT.source,
        task="image-to-video",
        settings={**MEMORY_SETTINGS, "image_fit": "stretch"},
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg3.5"), source="Wan2.2's wan_i2v_A14B.py, on both sides of its boundary"),
            "stg": Preset(Guidance.parse("cfg3.5+stg-a[8]w1"), source="layer 8 as in the public Wan pipeline"),
            "vendor": Preset(Guidance.parse("cfg3.5"), source="Wan2.2's wan_i2v_A14B.py"),
        },
    ),
    pipeline="WanImageToVideoPipeline",
    small=small,
    arguments=arguments,
    checkpoints=(CHECKPOINT,),
)
