"""Mochi 1 preview: text to video, with the paper's presets and their published values. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance.layers import LayerMap, latent_grid, stack
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import byte_tokenizer, t5
from stg_eval.types import Guidance
from stg_eval.weights import Weight

if TYPE_CHECKING:
    from torch import Tensor, nn

CHECKPOINT = Weight(
    name="mochi",
    needed_by="model mochi",
    licence="Apache-2.0",
    size=40_025_270_143,
    repo="genmo/mochi-1-preview",
    revision="14be5fcea23095ed330cb214647916a451e38b6e",
    # The text encoder has no bfloat16 files.
    files=(
        "model_index.json",
        "scheduler/*",
        "tokenizer/*",
        "*/config.json",
        "text_encoder/*",
        "transformer/*bf16*",
        "vae/*bf16*",
    ),
)


def _published(iq: float, aq: float, ms: float, dd: float, tf: float) -> dict[str, float]:
    return {
        "imaging_quality": iq,
        "aesthetic_quality": aq,
        "motion_smoothness": ms,
        "dynamic_degree": dd,
        "temporal_flickering": tf,
    }


def joint_identity(attention: nn.Module) -> Callable[..., Any]:
    """Return diffusers' MochiAttnProcessor2_0: text has projections of its own; invalid text tokens take no part."""
    import torch
    from torch.nn import functional as F

    from stg_eval.generators.guidance import skips

    a: Any = attention

    def heads(x: Tensor, norm: nn.Module | None = None) -> Tensor:
        x = x.unflatten(2, (a.heads, -1))
        return x if norm is None else norm(x)

    def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        even, odd = x[..., 0::2].float(), x[..., 1::2].float()
        both = [(even * cos - odd * sin).to(x.dtype), (even * sin + odd * cos).to(x.dtype)]
        return torch.stack(both, dim=-1).flatten(-2)

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        q, k = heads(a.to_q(hidden_states), a.norm_q), heads(a.to_k(hidden_states), a.norm_k)
        v = heads(a.to_v(hidden_states))
        text = (
            heads(a.add_q_proj(encoder_hidden_states), a.norm_added_q),
            heads(a.add_k_proj(encoder_hidden_states), a.norm_added_k),
            heads(a.add_v_proj(encoder_hidden_states)),
        )
        if image_rotary_emb is not None:
            q, k = rotated(q, *image_rotary_emb), rotated(k, *image_rotary_emb)
        q, k, v, text_q, text_k, text_v = (x.transpose(1, 2) for x in (q, k, v, *text))
        video_out, text_out = [], []
        for i, mask in enumerate(attention_mask.bool()):
            valid = mask.nonzero().flatten()
            row = slice(i, i + 1)
            video, words = skips.joint_identity(
                q[row], k[row], v[row], *(x[row][:, :, valid] for x in (text_q, text_k, text_v))
            )
            video_out.append(video)
            # the stock processor packs the valid tokens' outputs to the front and pads with zeros
            text_out.append(F.pad(words, (0, 0, 0, text_q.shape[2] - words.shape[2])))
        video = torch.cat(video_out).transpose(1, 2).flatten(2)
        words = torch.cat(text_out).transpose(1, 2).flatten(2)
        return a.to_out[1](a.to_out[0](video)), a.to_add_out(words) if hasattr(a, "to_add_out") else words

    return forward


def small() -> Any:
    """See `DiffusersModel.small`."""
    from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    return MochiPipeline(
        transformer=MochiTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            pooled_projection_dim=16,
            text_embed_dim=32,
            time_embed_dim=4,
            max_sequence_length=256,
        ),
        vae=AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
    )


MODEL = DiffusersModel(
    card=ModelCard(
        name="mochi",
        title="Mochi 1 preview",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=480,
        width=848,
        num_frames=163,
        fps=30.0,
        num_inference_steps=64,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg4.5"), _published(0.524, 0.507, 0.985, 0.87, 0.976), "Table 1"),
            # index 35 as in the code of the paper's time, which counts from 0
            "stg": Preset(
                Guidance.parse("cfg4.5+stg-r[35]w1"), _published(0.628, 0.554, 0.988, 0.86, 0.978), "Table 1"
            ),
            "stg-a": Preset(
                Guidance.parse("cfg4.5+stg-a[35]w2"), _published(0.555, 0.541, 0.987, 0.86, 0.976), "Table 3"
            ),
            "seg": Preset(Guidance.parse("cfg4.5+seg[35]w1")),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=1668.0,
        num_layers=48,
    ),
    pipeline="MochiPipeline",
    small=small,
    layer_map=LayerMap(
        model="Mochi",
        layers=stack(joint="transformer_blocks"),
        streams=("hidden_states", "encoder_hidden_states"),
        joint_identity={"MochiAttnProcessor2_0": joint_identity},
        grid=latent_grid("hidden_states", frames=2, patch=2),
    ),
    variants={"bfloat16": "bf16"},
    smoke={**SMOKE, "num_frames": 13},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=6,
    min_steps=2,
)
