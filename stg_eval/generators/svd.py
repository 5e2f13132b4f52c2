"""Stable Video Diffusion: image to video, with the paper's presets and their published values.

`--set weights=stabilityai/stable-video-diffusion-img2vid@9cf024d5bfa8f56622af86c884f26a52f6676f2e --set num_frames=14`
takes the 14-frame checkpoint instead of -xt. Imports no torch.
"""

from __future__ import annotations

from typing import Any

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.first_frame import first_frame
from stg_eval.generators.guidance.layers import Layer, LayerMap, latent_grid
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.types import Guidance, Request
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="svd",
    needed_by="model svd",
    licence="Stability AI Community",
    size=4_510_000_000,
    repo="stabilityai/stable-video-diffusion-img2vid-xt",
    revision="9e43909513c6714f1bc78bcb44d96e733cd242aa",
    files=(
        "model_index.json",
        "*/*.json",
        "image_encoder/*.fp16.safetensors",
        "unet/*.fp16.safetensors",
        "vae/*.fp16.safetensors",
    ),
)


def _published(fvd: float, inception: float, iq: float, aq: float, ms: float, dd: float) -> dict[str, float]:
    return {
        "fvd": fvd,
        "is": inception,
        "imaging_quality": iq,
        "aesthetic_quality": aq,
        "motion_smoothness": ms,
        "dynamic_degree": dd,
    }


CARD = ModelCard(
    name="svd",
    title="Stable Video Diffusion",
    weights=CHECKPOINT.source,
    task="image-to-video",
    height=576,
    width=1024,
    num_frames=25,
    fps=7.0,
    num_inference_steps=25,
    dtype="float16",
    presets={
        "none": Preset(Guidance.parse("none")),
        "cfg": Preset(Guidance.parse("cfg3"), _published(151.3, 38.0, 0.687, 0.637, 0.966, 0.562), "Table 2"),
        # Table 4 prints 0.638 for this row's aesthetic quality
        "stg": Preset(
            Guidance.parse("cfg3+stg-a[8]s2t2"), _published(128.7, 38.5, 0.694, 0.639, 0.968, 0.694), "Table 2"
        ),
        "stg-r": Preset(
            Guidance.parse("cfg3+stg-r[8]s1t1"), _published(155.9, 39.3, 0.687, 0.637, 0.965, 0.641), "Table 3"
        ),
        "stg-spatial": Preset(
            Guidance.parse("cfg3+stg-a[8]s2"), _published(133.8, 38.3, 0.691, 0.639, 0.967, 0.659), "Table 4"
        ),
        "stg-temporal": Preset(Guidance.parse("cfg3+stg-a[8]t2")),
        "stg-orth": Preset(
            Guidance.parse("cfg3+stg-a[8]s2t2+orth"), _published(130.4, 38.4, 0.691, 0.637, 0.967, 0.692), "Table 5"
        ),
        "stg-input": Preset(Guidance.parse("cfg3+stg-i[8]s1t1"), source="the residual skip of the deleted public code"),
        "seg": Preset(Guidance.parse("cfg3+seg[8]s2")),
    },
    settings={
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
        "min_guidance_scale": 1.0,
        "decode_chunk_size": 8,
        "image_fit": "stretch",
        "offload": "none",  # of loading.MEMORY_SETTINGS; its VAE cannot decode in tiles, but in chunks of frames
    },
    tflops_per_pass=80.0,
    num_layers=16,
)
"""CFG is cfg_scale for the last frame and min_guidance_scale for the first, linear between. image_fit is how a first
frame of another aspect becomes height x width: "stretch" (diffusers' own) or "crop" (its middle)."""

LAYERS = [
    Layer({"spatial": f"{path}.transformer_blocks.0", "temporal": f"{path}.temporal_transformer_blocks.0"}, path)
    for path in (
        *(f"down_blocks.{i}.attentions.{j}" for i in range(3) for j in range(2)),
        "mid_block.attentions.0",
        *(f"up_blocks.{i}.attentions.{j}" for i in range(1, 4) for j in range(3)),
    )
]
"""The published model's layers in execution order (named_modules() would list mid last); the first is number 1."""

SHARES = (
    (0.9507, 0.9399),
    (0.8727, 0.862),
    (0.8256, 0.8149),
    (0.7775, 0.7669),
    (0.7342, 0.7236),
    (0.69, 0.6793),
    (0.6493, 0.6466),
    (0.5954, 0.5848),
    (0.5447, 0.534),
    (0.4968, 0.4862),
    (0.4152, 0.4045),
    (0.3606, 0.35),
    (0.3091, 0.2984),
    (0.1976, 0.1869),
    (0.1132, 0.1025),
    (0.0288, 0.0181),
)
"""What a weak pass costs for each layer, in passes: spatial, temporal. From benchmarks/guidance_flops.py --shares."""


def arguments(request: Request) -> dict[str, Any]:
    """Say what this pipeline needs beside the common arguments. Raises StgEvalError for an unreadable first frame."""
    settings = dict(CARD.settings) | dict(request.settings)
    return {
        "image": first_frame(request, str(settings["image_fit"])),
        "min_guidance_scale": settings["min_guidance_scale"] if request.guidance.cfg_scale > 1 else 1.0,
        "max_guidance_scale": request.guidance.cfg_scale,
        "fps": int(request.fps),
        "motion_bucket_id": settings["motion_bucket_id"],
        "noise_aug_strength": settings["noise_aug_strength"],
        "decode_chunk_size": settings["decode_chunk_size"],
    }


def small() -> Any:
    """See `DiffusersModel.small`."""
    from diffusers import (
        AutoencoderKLTemporalDecoder,
        EulerDiscreteScheduler,
        StableVideoDiffusionPipeline,
        UNetSpatioTemporalConditionModel,
    )
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        projection_dim=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=224,
        patch_size=56,
    )
    return StableVideoDiffusionPipeline(
        unet=UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 32, 32, 32),
            num_attention_heads=(2, 2, 2, 2),
            cross_attention_dim=32,
            addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=96,
        ),
        vae=AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(32, 32, 32, 32), layers_per_block=1
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            prediction_type="v_prediction",
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
            timestep_spacing="leading",
            timestep_type="continuous",
            steps_offset=1,
        ),
        image_encoder=CLIPVisionModelWithProjection(vision),
        feature_extractor=CLIPImageProcessor(),
    )


MODEL = DiffusersModel(
    card=CARD,
    pipeline="StableVideoDiffusionPipeline",
    small=small,
    arguments=arguments,
    layer_map=LayerMap(
        model="Stable Video Diffusion",
        layers=lambda _: LAYERS,
        first=1,
        prefix=(
            "down_blocks.?",
            "mid_block",
            "up_blocks.?",
            "*.resnets.?",
            "*.attentions.?",
            "*.downsamplers.?",
            "*.attentions.?.transformer_blocks.?",
        ),
        grid=latent_grid("sample", frames=1),
    ),
    shares={
        path: share
        for layer, pair in zip(LAYERS, SHARES, strict=True)
        for path, share in zip(layer.blocks.values(), pair, strict=True)
    },
    denoisers=("unet",),
    variants={"float16": "fp16"},
    smoke={**SMOKE, "num_frames": 16},  # FVD and IS look at 16 frames
    checkpoints=(CHECKPOINT,),
    whole_fps=True,
)
