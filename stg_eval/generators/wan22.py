"""Wan 2.2 A14B: text to video, a transformer for high noise levels and one for low. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from stg_eval.generators import wan
from stg_eval.generators.model import Preset
from stg_eval.types import Guidance
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="wan22",
    needed_by="model wan22",
    licence="Apache-2.0",
    size=126_200_000_000,
    repo="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    files=(*wan.CHECKPOINT.files, "transformer_2/*"),
)

MODEL = replace(
    wan.MODEL,
    card=replace(
        wan.MODEL.card,
        name="wan22",
        title="Wan 2.2 A14B",
        weights=CHECKPOINT.source,
        num_inference_steps=40,
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg4")),
            "stg": Preset(Guidance.parse("cfg4+stg-a[8]w1"), source="layer 8 as for Wan 2.1"),
            "slg": Preset(Guidance.parse("cfg4+stg-r[9]u@0.1-0.9"), source="Wan2GP's skip-layer guidance"),
            "vendor": Preset(
                Guidance.parse("cfg4,3@n1-0.875-0"), source="its repository: 4 above its boundary, 3 below"
            ),
        },
        tflops_per_pass=1678.4,
        num_layers=40,
    ),
    small=partial(wan.small, num_layers=40, second=True),
    denoisers=("transformer", "transformer_2"),
    checkpoints=(CHECKPOINT,),
)
