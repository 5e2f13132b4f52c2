"""CogVideoX-5B: text to video. Not in the paper's tables. Imports no torch."""

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
    name="cogvideox",
    needed_by="model cogvideox",
    licence="CogVideoX License",
    size=21_500_000_000,
    repo="THUDM/CogVideoX-5b",
    revision="8d6ea3f817438460b25595a120f109b88d5fdfad",
    files=("model_index.json", "scheduler/*", "tokenizer/*", "text_encoder/*", "transformer/*", "vae/*"),
)


def joint_identity(attention: nn.Module) -> Callable[..., Any]:
    """Return diffusers' CogVideoXAttnProcessor2_0: text and video share the projections; text comes first."""
    import torch
    from diffusers.models.embeddings import apply_rotary_emb

    from stg_eval.generators.guidance import skips

    a: Any = attention

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        image_rotary_emb: Any = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        length = encoder_hidden_states.shape[1]
        both = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        q, k, v = (f(both).unflatten(2, (a.heads, -1)).transpose(1, 2) for f in (a.to_q, a.to_k, a.to_v))
        q = q if a.norm_q is None else a.norm_q(q)
        k = k if a.norm_k is None else a.norm_k(k)
        (text_q, q), (text_k, k), (text_v, v) = ((x[:, :, :length], x[:, :, length:]) for x in (q, k, v))
        if image_rotary_emb is not None:
            q, k = apply_rotary_emb(q, image_rotary_emb), apply_rotary_emb(k, image_rotary_emb)
        video, text = skips.joint_identity(q, k, v, text_q, text_k, text_v)
        out = torch.cat([text, video], dim=2).transpose(1, 2).flatten(2)
        out = a.to_out[1](a.to_out[0](out))
        return out[:, length:], out[:, :length]

    return forward


def small(in_channels: int = 4) -> Any:
    """See `DiffusersModel.small`."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

    return CogVideoXPipeline(
        transformer=CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=42,
            in_channels=in_channels,
            out_channels=4,
            time_embed_dim=4,
            text_embed_dim=32,
            use_rotary_positional_embeddings=True,
        ),
        vae=AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
        ),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
        text_encoder=t5(),
        tokenizer=byte_tokenizer(),
    )


MODEL = DiffusersModel(
    card=ModelCard(
        name="cogvideox",
        title="CogVideoX-5B",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=480,
        width=720,
        num_frames=49,
        fps=8.0,
        num_inference_steps=50,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg6")),
            "stg": Preset(Guidance.parse("cfg6+stg-a[11]w1"), source="layer 11 as in the public CogVideoX pipeline"),
            "vendor": Preset(Guidance.parse("cfg6"), source="its model card; its demo varies the scale over the run"),
        },
        settings=MEMORY_SETTINGS,
        tflops_per_pass=332.2,
        num_layers=42,
    ),
    pipeline="CogVideoXPipeline",
    small=small,
    layer_map=LayerMap(
        model="CogVideoX",
        layers=stack(joint="transformer_blocks"),
        streams=("hidden_states", "encoder_hidden_states"),
        joint_identity={"CogVideoXAttnProcessor2_0": joint_identity},
        unbatched=("image_rotary_emb",),
        grid=latent_grid("hidden_states", frames=1, patch=2),
    ),
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=16,
    frames_multiple=8,  # the VAE decodes two latent frames, eight of the clip, at a time
)
