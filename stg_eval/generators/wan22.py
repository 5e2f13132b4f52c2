"""Wan 2.2 A14B: text to video, a transformer for high noise levels and one for low. Imports no torch."""

from __future__ import annotations

from functools import partial

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.wan import LAYER_MAP, small
from stg_eval.types import Guidance
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="wan22",
    needed_by="model wan22",
    licence="Apache-2.0",
    size=126_200_000_000,
    repo="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    files=(
        "model_index.json",
        "scheduler/*",
        "tokenizer/*",
        "text_encoder/*",
        "transformer/*",
        "transformer_2/*",
        "vae/*",
    ),
)

MODEL = DiffusersModel(
    card=ModelCard(
        name="wan22",
        title="Wan 2.2 A14B",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=480,
        width=832,
        num_frames=81,
        fps=16.0,
        num_inference_steps=40,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg4")),
            "stg": Preset(Guidance.parse("cfg4+stg-a[8]w1"), source="layer 8 as for Wan 2.1"),
            "slg": Preset(Guidance.parse("cfg4+stg-r[9]u@0.1-0.9"), source="Wan2GP's skip-layer guidance"),
            "vendor": Preset(
                Guidance.parse("cfg4,3@n1-0.875-0"), source="its repository: 4 above its boundary, 3 below"
            ),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=1678.4,
        num_layers=40,
    ),
    pipeline="WanPipeline",
    small=partial(small, num_layers=40, second=True),
    layer_map=LAYER_MAP,
    denoisers=("transformer", "transformer_2"),
    batch_order="c,u",
    float32=("vae",),  # as the model card asks
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=4,
)
