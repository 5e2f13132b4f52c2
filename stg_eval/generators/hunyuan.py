"""HunyuanVideo: text to video, distilled: its guidance is told to it, and CFG proper is off. Imports no torch."""

from __future__ import annotations

from typing import Any

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance.layers import Layer, LayerMap, latent_grid
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import byte_tokenizer
from stg_eval.types import Guidance, Request
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="hunyuan",
    needed_by="model hunyuan",
    licence="Tencent Hunyuan Community License",
    size=42_300_000_000,
    repo="hunyuanvideo-community/HunyuanVideo",
    files=(
        "model_index.json",
        "scheduler/*",
        "tokenizer/*",
        "tokenizer_2/*",
        "text_encoder/*",
        "text_encoder_2/*",
        "transformer/*",
        "vae/*",
    ),
)

LAYERS = [
    *(Layer({"joint": f"transformer_blocks.{i}"}) for i in range(20)),
    *(Layer({"joint": f"single_transformer_blocks.{i}"}) for i in range(40)),
]
"""The blocks with a stream for video and one for text, then those that join them; the first is number 0."""


def arguments(request: Request) -> dict[str, Any]:
    """The distilled guidance is a setting; cfg is the pipeline's true_cfg_scale, which it leaves at 1."""
    settings = dict(MODEL.card.settings) | dict(request.settings)
    return {
        "prompt": request.case.prompt,
        "negative_prompt": request.case.negative_prompt,
        "true_cfg_scale": request.guidance.cfg_scale,
        "guidance_scale": settings["embedded_guidance_scale"],
    }


def small() -> Any:
    """See `DiffusersModel.small`."""
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

    text: dict[str, Any] = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    return HunyuanVideoPipeline(
        text_encoder=LlamaModel(LlamaConfig(**text, **ends, num_hidden_layers=3)),
        tokenizer=byte_tokenizer(),
        transformer=HunyuanVideoTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_refiner_layers=1,
            text_embed_dim=32,
            pooled_projection_dim=32,
            rope_axes_dim=(4, 6, 6),
            in_channels=4,
            out_channels=4,
        ),
        vae=AutoencoderKLHunyuanVideo(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            mid_block_add_attention=False,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=CLIPTextModel(CLIPTextConfig(**text, **ends, num_hidden_layers=1, projection_dim=32)),
        tokenizer_2=byte_tokenizer(77),
    )


MODEL = DiffusersModel(
    card=ModelCard(
        name="hunyuan",
        title="HunyuanVideo",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=720,
        width=1280,
        num_frames=129,
        fps=24.0,
        num_inference_steps=50,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none"), source="the distilled guidance alone, as its repository runs it"),
            "cfg": Preset(Guidance.parse("cfg6"), source="true CFG, which its repository does not use"),
            "stg": Preset(Guidance.parse("cfg1+stg-r[2]w1"), source="layer 2 as in the public HunyuanVideo pipeline"),
        },
        settings={**MEMORY_SETTINGS, "embedded_guidance_scale": 6.0},
        tflops_per_pass=12068.6,
        num_layers=60,
    ),
    pipeline="HunyuanVideoPipeline",
    small=small,
    arguments=arguments,
    layer_map=LayerMap(
        model="HunyuanVideo",
        layers=lambda _: LAYERS,
        streams=("hidden_states", "encoder_hidden_states"),
        grid=latent_grid("hidden_states", frames=2, patch=2),
    ),
    batch_order="c,u",
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=4,
)
