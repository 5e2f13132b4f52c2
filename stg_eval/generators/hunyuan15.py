"""HunyuanVideo 1.5, 480p: text to video. Not in the paper's tables. Imports no torch."""

from __future__ import annotations

from typing import Any

from stg_eval.generators import hunyuan
from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance.layers import LayerMap, latent_grid, stack
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import byte_tokenizer, t5
from stg_eval.types import Guidance, Request
from stg_eval.weights import Weight

CHECKPOINT = Weight(
    name="hunyuan15",
    needed_by="model hunyuan15",
    licence="Tencent Hunyuan Community License",
    size=34_000_000_000,
    repo="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
    files=(*hunyuan.CHECKPOINT.files, "guider/*"),
)


def arguments(request: Request) -> dict[str, Any]:
    """Return the prompts; for the CFG scale see `HunyuanVideo15.prepare`."""
    return {"prompt": request.case.prompt, "negative_prompt": request.case.negative_prompt}


def small() -> Any:
    """See `DiffusersModel.small`; its chat has no system's message, and few tokens of everything."""
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15Pipeline,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import ByT5Tokenizer, Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

    text = Qwen2_5_VLTextConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=0,
        eos_token_id=1,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    )
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    pipeline = HunyuanVideo15Pipeline(
        text_encoder=Qwen2_5_VLTextModel(text),
        tokenizer=tokenizer,
        transformer=HunyuanVideo15Transformer3DModel(
            in_channels=9,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_refiner_layers=1,
            text_embed_dim=32,
            text_embed_2_dim=32,
            image_embed_dim=8,
            rope_axes_dim=(4, 6, 6),
        ),
        vae=AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=t5(),
        tokenizer_2=ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=6.0),
    )
    pipeline.prompt_template_encode_start_idx, pipeline.tokenizer_max_length = 0, 64
    pipeline.tokenizer_2_max_length, pipeline.vision_num_semantic_tokens = 16, 4
    return pipeline


class HunyuanVideo15(DiffusersModel):
    """A model whose pipeline has its CFG in a guider, one call for each prediction."""

    def prepare(self, pipeline: Any, cfg_scale: float) -> None:
        """See `DiffusersModel.prepare`."""
        pipeline.guider.guidance_scale = cfg_scale


MODEL = HunyuanVideo15(
    card=ModelCard(
        name="hunyuan15",
        title="HunyuanVideo 1.5",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=480,
        width=848,
        num_frames=121,
        fps=24.0,
        num_inference_steps=50,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg6")),
            "stg": Preset(Guidance.parse("cfg6+stg-r[2]w1"), source="layer 2 as for HunyuanVideo; none is published"),
            "vendor": Preset(Guidance.parse("cfg6"), source="its repository's table, 480p T2V"),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=1441.9,
        num_layers=54,
    ),
    pipeline="HunyuanVideo15Pipeline",
    small=small,
    arguments=arguments,
    layer_map=LayerMap(
        model="HunyuanVideo 1.5",
        layers=stack(joint="transformer_blocks"),
        attention="attn",
        streams=("hidden_states", "encoder_hidden_states"),
        joint_identity={"HunyuanVideo15AttnProcessor2_0": hunyuan.joint_identity},
        grid=latent_grid("hidden_states", frames=2),
    ),
    batch_order="c,u",
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=4,
)
