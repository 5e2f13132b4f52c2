"""LTX-2.3: LTX-2 with gated attention and text connectors of their own; everything else as there. Imports no torch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from stg_eval.generators import ltx2
from stg_eval.generators.model import Preset
from stg_eval.types import Guidance
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="ltx23",
    needed_by="model ltx23",
    licence="LTX-2 Community License",
    size=96_000_000_000,
    repo="diffusers/LTX-2.3-Diffusers",
    files=ltx2.CHECKPOINT.files,
)

VENDOR = Preset(Guidance.parse("cfg3+stg-a[28]w1+rescale0.7"), source="its repository's default for 2.3")

MODEL = replace(
    ltx2.MODEL,
    card=replace(
        ltx2.MODEL.card,
        name="ltx23",
        title="LTX-2.3",
        weights=CHECKPOINT.source,
        num_inference_steps=30,
        tflops_per_pass=198.9,
        presets={**ltx2.MODEL.card.presets, "stg": VENDOR, "vendor": VENDOR},
    ),
    small=partial(
        ltx2.small,
        transformer={
            "gated_attn": True,
            "cross_attn_mod": True,
            "audio_gated_attn": True,
            "audio_cross_attn_mod": True,
            "use_prompt_embeddings": False,
        },
        connectors={
            "video_gated_attn": True,
            "audio_gated_attn": True,
            "per_modality_projections": True,
            "video_hidden_dim": 16,
            "audio_hidden_dim": 8,
            "video_connector_num_attention_heads": 2,
            "audio_connector_num_attention_heads": 2,
            "audio_connector_attention_head_dim": 4,
            "proj_bias": True,
        },
    ),
    checkpoints=(CHECKPOINT,),
)
