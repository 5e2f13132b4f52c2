"""LTX-Video 13B dev (0.9.7): text to video. Not in the paper's tables. Imports no torch."""

from __future__ import annotations

from functools import partial

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.ltx import LAYER_MAP, arguments, small
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.types import Guidance
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="ltx13b",
    needed_by="model ltx13b",
    licence="LTX-Video Open Weights License",
    size=49_700_000_000,
    repo="Lightricks/LTX-Video-0.9.7-dev",
    files=("model_index.json", "scheduler/*", "tokenizer/*", "text_encoder/*", "transformer/*", "vae/*"),
)

VENDOR = (
    "cfg6,8,6@n0.996-0.9933-0.985-0.9767"
    "+stg-a[22,35,39]w4@n0.996-0.9933+stg-a[28]w4,2,1@n0.9933-0.9767-0.9008-0"
    "+zero[steps=0]+rescale0.5@n0.996-0.985"
)
"""Its repository's seven noise levels, without the three steps that it leaves out at the end and its second pass. A
rescaling of 1 is none there."""

MODEL = DiffusersModel(
    card=ModelCard(
        name="ltx13b",
        title="LTX-Video 13B dev",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=704,
        width=1216,
        num_frames=121,
        fps=30.0,
        num_inference_steps=30,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg6")),
            "stg": Preset(Guidance.parse("cfg6+stg-a[28]w4"), source="layer 28, which its repository uses most"),
            "vendor": Preset(Guidance.parse(VENDOR), source="first pass of ltxv-13b-0.9.7-dev.yaml"),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=444.1,
        num_layers=48,
    ),
    pipeline="LTXPipeline",
    small=partial(small, num_layers=48),
    arguments=arguments,
    layer_map=LAYER_MAP,
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=32,
    frames_multiple=8,
    min_steps=2,  # its schedule ends at a level of its own, to which one step alone cannot be stretched
)
