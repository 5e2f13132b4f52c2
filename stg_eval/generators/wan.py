"""Wan 2.1 1.3B: text to video. Not in the paper's tables. Imports no torch."""

from __future__ import annotations

from typing import Any

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance.layers import LayerMap, latent_grid, stack
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import T5, byte_tokenizer
from stg_eval.types import Guidance
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="wan",
    needed_by="model wan",
    licence="Apache-2.0",
    size=28_900_000_000,
    repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    revision="0fad780a534b6463e45facd96134c9f345acfa5b",
    files=("model_index.json", "scheduler/*", "tokenizer/*", "text_encoder/*", "transformer/*", "vae/*"),
)


def small(num_layers: int = 30, second: bool = False, in_channels: int = 16) -> Any:
    """See `DiffusersModel.small`; with a second transformer as Wan 2.2 has it."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    def transformer() -> Any:
        return WanTransformer3DModel(
            in_channels=in_channels,
            num_attention_heads=2,
            attention_head_dim=12,
            text_dim=32,
            freq_dim=32,
            ffn_dim=32,
            num_layers=num_layers,
            qk_norm="rms_norm_across_heads",
        )

    return WanPipeline(
        transformer=transformer(),
        vae=AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1),
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        text_encoder=UMT5EncoderModel(UMT5Config(**T5)),
        tokenizer=byte_tokenizer(),
        **({"transformer_2": transformer(), "boundary_ratio": 0.875} if second else {}),
    )


LAYER_MAP = LayerMap(
    model="Wan",
    layers=stack(joint="blocks"),
    grid=latent_grid("hidden_states", frames=2, patch=2),
)

MODEL = DiffusersModel(
    card=ModelCard(
        name="wan",
        title="Wan 2.1 1.3B",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=480,
        width=832,
        num_frames=81,
        fps=16.0,
        num_inference_steps=50,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg5")),
            "stg": Preset(Guidance.parse("cfg5+stg-a[8]w1"), source="layer 8 as in the public Wan pipeline"),
            "slg": Preset(Guidance.parse("cfg5+stg-r[9]u@0.1-0.9"), source="Wan2GP's skip-layer guidance"),
            "vendor": Preset(Guidance.parse("cfg5"), source="its repository's generate.py"),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=283.0,
        num_layers=30,
    ),
    pipeline="WanPipeline",
    small=small,
    layer_map=LAYER_MAP,
    batch_order="c,u",
    float32=("vae",),  # as the model card asks
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=4,
)
