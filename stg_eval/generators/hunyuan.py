"""HunyuanVideo: text to video, distilled: its guidance is told to it, and CFG proper is off. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance.layers import Layer, LayerMap, latent_grid
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import byte_tokenizer
from stg_eval.types import Guidance, Request
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor, nn

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


def joint_identity(attention: nn.Module) -> Callable[..., Any]:
    """Return diffusers' HunyuanVideoAttnProcessor2_0, and that of HunyuanVideo 1.5: video comes first; text has
    projections of its own in two-stream blocks; invalid text is no key."""
    import torch
    from diffusers.models.embeddings import apply_rotary_emb

    from stg_eval.generators.guidance import skips

    a: Any = attention

    def heads(x: Tensor, norm: Any = None) -> Tensor:
        x = x.unflatten(2, (a.heads, -1))
        return x if norm is None else norm(x)

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        image_rotary_emb: Any = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        tokens = hidden_states.shape[1]
        q, k = heads(a.to_q(hidden_states), a.norm_q), heads(a.to_k(hidden_states), a.norm_k)
        v = heads(a.to_v(hidden_states))
        if image_rotary_emb is not None:
            q, k = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=1) for x in (q, k))
        own = a.add_q_proj is not None
        text_q = heads((a.add_q_proj if own else a.to_q)(encoder_hidden_states), a.norm_added_q if own else a.norm_q)
        text_k = heads((a.add_k_proj if own else a.to_k)(encoder_hidden_states), a.norm_added_k if own else a.norm_k)
        text_v = heads((a.add_v_proj if own else a.to_v)(encoder_hidden_states))
        q, k, v, text_q, text_k, text_v = (x.transpose(1, 2) for x in (q, k, v, text_q, text_k, text_v))
        masks = attention_mask[:, 0, 0, tokens:] if attention_mask.ndim == 4 else attention_mask.bool()  # 1.5: of text
        out = []
        for i, valid in enumerate(masks):
            row = slice(i, i + 1)
            out.append(
                skips.joint_identity(
                    q[row], k[row], v[row], text_q[row], text_k[row][:, :, valid], text_v[row][:, :, valid]
                )
            )
        video, text = (torch.cat(parts).transpose(1, 2).flatten(2) for parts in zip(*out, strict=True))
        if getattr(a, "to_out", None) is not None:
            video = a.to_out[1](a.to_out[0](video))
        if getattr(a, "to_add_out", None) is not None:
            text = a.to_add_out(text)
        return video, text

    return forward


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
            "vendor": Preset(Guidance.parse("none"), source="its repository: the distilled guidance at 6, alone"),
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
        attention="attn",
        streams=("hidden_states", "encoder_hidden_states"),
        joint_identity={"HunyuanVideoAttnProcessor2_0": joint_identity},
        grid=latent_grid("hidden_states", frames=2, patch=2),
    ),
    batch_order="c,u",
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=4,
)
