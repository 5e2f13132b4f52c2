"""LTX-Video: text to video. Not in the paper's tables. Imports no torch."""

from __future__ import annotations

from typing import Any

from stg_eval.generators.diffusers_video import DiffusersModel, text_arguments
from stg_eval.generators.guidance.layers import LayerMap, stack
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import byte_tokenizer, t5
from stg_eval.types import Guidance, Request
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="ltx",
    needed_by="model ltx",
    licence="LTX-Video Open Weights License",
    size=28_400_000_000,
    repo="Lightricks/LTX-Video",
    revision="8984fa25007f376c1a299016d0957a37a2f797bb",
    files=(
        "model_index.json",
        "scheduler/*",
        "tokenizer/*",
        "text_encoder/*",
        "transformer/*",
        "vae/*",
    ),
)


def arguments(request: Request) -> dict[str, Any]:
    """Return LTX also sees the frame rate."""
    return {**text_arguments(request), "frame_rate": request.fps}


def small(num_layers: int = 28) -> Any:
    """See `DiffusersModel.small`."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    return LTXPipeline(
        transformer=LTXVideoTransformer3DModel(
            num_layers=num_layers,
            in_channels=8,
            out_channels=8,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=32,
        ),
        vae=AutoencoderKLLTXVideo(
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
        ),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
    )


LAYER_MAP = LayerMap(
    model="LTX-Video",
    layers=stack(joint="transformer_blocks"),
    unbatched=("rope_interpolation_scale",),
    grid=lambda args, kwargs: (kwargs["num_frames"], kwargs["height"], kwargs["width"]),
)

MODEL = DiffusersModel(
    card=ModelCard(
        name="ltx",
        title="LTX-Video",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=512,
        width=704,
        num_frames=161,
        fps=25.0,
        num_inference_steps=50,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg3")),
            "stg": Preset(Guidance.parse("cfg3+stg-a[19]w1"), source="layer 19 as in the public LTX pipelines"),
            "vendor": Preset(Guidance.parse("cfg3+stg-a[19]w1+rescale0.7"), source="its repository's 2B presets"),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=37.2,
        num_layers=28,
    ),
    pipeline="LTXPipeline",
    small=small,
    arguments=arguments,
    layer_map=LAYER_MAP,
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=32,
    frames_multiple=8,
    min_steps=2,  # its schedule ends at a level of its own, to which one step alone cannot be stretched
)
