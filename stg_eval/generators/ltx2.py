"""LTX-2: text to video with sound, the one family that skips layers by default. Imports no torch.

Skips act on both streams, video and audio, with one scale. CFG with a scale for each stream, rescaling in x0 space and
modality guidance (away from streams that do not see each other) are the pipeline's own. Clips are scored without sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval.generators.diffusers_video import DiffusersModel, PipelineGenerator
from stg_eval.generators.guidance.layers import LayerMap, stack
from stg_eval.generators.loading import MEMORY_SETTINGS
from stg_eval.generators.model import SMOKE, ModelCard, Preset
from stg_eval.generators.random_weights import byte_tokenizer
from stg_eval.terms import Moment
from stg_eval.types import Guidance, JSONValue, Request, StgEvalError
from stg_eval.weights import Weight

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CHECKPOINT = Weight(
    name="ltx2",
    needed_by="model ltx2",
    licence="LTX-2 Community License",
    size=92_000_000_000,
    repo="Lightricks/LTX-2",
    files=(
        "model_index.json",
        "scheduler/*",
        "tokenizer/*",
        "text_encoder/*",
        "connectors/*",
        "transformer/*",
        "vae/*",
        "audio_vae/*",
        "vocoder/*",
    ),
)


def arguments(request: Request) -> dict[str, Any]:
    """What the pipeline does itself: CFG for each stream, rescale in x0 space, modality guidance. Without CFG there is
    none of it, which the pipeline would run all the same."""
    settings, guidance = dict(MODEL.card.settings) | dict(request.settings), request.guidance
    modality, audio = (settings[f"{name}_scale"] for name in ("modality", "audio_guidance"))
    if guidance.cfg_scale == 1:
        modality = audio = 1.0
    return {
        "prompt": request.case.prompt,
        "negative_prompt": request.case.negative_prompt,
        "frame_rate": request.fps,
        "guidance_scale": guidance.cfg_scale,
        "stg_scale": 0.0,  # the engine's
        "guidance_rescale": guidance.rescale,
        "modality_scale": modality,
        "audio_guidance_scale": audio,
        "audio_stg_scale": 0.0,
        "audio_guidance_rescale": guidance.rescale,
        "audio_modality_scale": modality,
    }


def small(transformer: Mapping[str, Any] | None = None, connectors: Mapping[str, Any] | None = None) -> Any:
    """See `DiffusersModel.small`, with what a later version of the model has otherwise in its transformer and its
    text connectors."""
    from diffusers import (
        AutoencoderKLLTX2Audio,
        AutoencoderKLLTX2Video,
        FlowMatchEulerDiscreteScheduler,
        LTX2Pipeline,
        LTX2VideoTransformer3DModel,
    )
    from diffusers.pipelines.ltx2 import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4, image_token_index=2)
    heads: dict[str, Any] = {}
    for stream in ("video", "audio"):
        heads |= {
            f"{stream}_connector_num_attention_heads": 4,
            f"{stream}_connector_attention_head_dim": 8,
            f"{stream}_connector_num_layers": 1,
            f"{stream}_connector_num_learnable_registers": None,
        }
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
        ),
        vae=AutoencoderKLLTX2Video(
            latent_channels=4,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 16, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            spatial_compression_ratio=32,
            temporal_compression_ratio=8,
        ),
        audio_vae=AutoencoderKLLTX2Audio(
            base_channels=4,
            output_channels=2,
            ch_mult=(1,),
            num_res_blocks=1,
            in_channels=2,
            resolution=32,
            latent_channels=2,
            causality_axis="height",
            mid_block_add_attention=False,
            mel_bins=8,
        ),
        text_encoder=Gemma3ForConditionalGeneration(config),
        tokenizer=byte_tokenizer(1024),
        connectors=LTX2TextConnectors(
            caption_channels=32,
            text_proj_in_factor=2,
            connector_rope_base_seq_len=32,
            rope_theta=10000.0,
            rope_double_precision=False,
            causal_temporal_positioning=False,
            rope_type="split",
            **heads | dict(connectors or {}),
        ),
        transformer=LTX2VideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            audio_in_channels=4,
            audio_out_channels=4,
            audio_num_attention_heads=2,
            audio_attention_head_dim=4,
            audio_cross_attention_dim=8,
            num_layers=48,
            perturbed_attn=True,  # its own guidance does nothing without, which tests compare with
            caption_channels=32,
            rope_double_precision=False,
            rope_type="split",
            **transformer or {},
        ),
        vocoder=LTX2Vocoder(
            in_channels=16,
            hidden_channels=32,
            out_channels=2,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
            output_sampling_rate=16000,
        ),
    )


def identity(attention: nn.Module) -> Callable[..., Any]:
    """Each token attends to itself, in LTX-2's attention with or without gates."""

    def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        a: Any = attention
        out = a.to_v(hidden_states)
        if a.to_gate_logits is not None:
            gates = 2 * a.to_gate_logits(hidden_states).sigmoid()
            out = (out.unflatten(2, (a.heads, -1)) * gates[..., None]).flatten(2)
        return a.to_out[1](a.to_out[0](out))

    return forward


class LTX2Generator(PipelineGenerator):
    """A loaded LTX-2."""

    def one_step_views(self, request: Request, step: int) -> dict[str, np.ndarray | StgEvalError]:
        """See `Generator`; of the video. "cfg" and "stg" have modality guidance, and are rescaled in x0 space."""
        from stg_eval.generators.guidance import equations
        from stg_eval.generators.guidance.views import one_step

        amounts: dict[int, float] = {}

        def but_here(moment: Moment) -> float:
            amounts[moment.step] = request.guidance.rescale_at(moment)
            return 0.0 if moment.step == step else amounts[moment.step]

        with (
            self._guided(request) as (predictions, generator),
            self._rescaling(request, but_here),
            one_step(self.pipeline.scheduler, predictions, step, request.num_inference_steps) as views,
        ):
            self._run(request, generator)
        for name in {"cfg", "stg"} & set(views):
            views[name] = equations.rescale(views[name], views["c"], amounts[step])
        return {name: self._decode(request, latents) for name, latents in views.items()}

    @contextmanager
    def _guided(self, request: Request) -> Iterator[tuple[Any, torch.Generator]]:
        with super()._guided(request) as given, self._rescaling(request, request.guidance.rescale_at):
            yield given

    @contextmanager
    def _rescaling(self, request: Request, amount: Callable[[Moment], float]) -> Iterator[None]:
        """Within the context the pipeline, which asks itself at every step, rescales by `amount`."""
        from stg_eval.generators.guidance.clock import clock

        pipeline, by_level = self.pipeline, any(p.window.unit == "n" for p in request.guidance.rescale_pieces)
        with clock(pipeline.scheduler, by_noise_level=by_level) as now:

            def tell(*_: Any) -> None:
                pipeline._guidance_rescale = pipeline._audio_guidance_rescale = amount(now())

            hook = pipeline.transformer.register_forward_pre_hook(tell)
            try:
                yield
            finally:
                hook.remove()


class LTX2(DiffusersModel):
    """A model whose pipeline rescales, and guides by modality, itself."""

    def check(self, request: Request) -> None:
        """See `Model.check`; also refuses what two streams in one pipeline cannot do."""
        super().check(request)
        self.cost(request.guidance)

    def cost(self, guidance: Guidance, num_inference_steps: int = 0) -> float:
        """See `Model.cost`: modality guidance goes with CFG and takes a pass."""
        passes = super().cost(guidance, num_inference_steps)
        skips = [skip for skip in guidance.skips if skip.method not in ("stg-a", "stg-r")]
        combine = (
            guidance.combine if guidance.combine and guidance.combine.method == "fdg" else None
        )  # sound has no grid
        for term in (*skips, *filter(None, (combine, guidance.restart))):
            raise StgEvalError(
                f"{self.card.name}, which makes video and sound together, cannot do {term}; leave it out"
            )
        if guidance.rescale and guidance.cfg_scale == 1:
            raise StgEvalError(f"{self.card.name} rescales together with CFG only; leave rescale out of {guidance}")
        return passes + (guidance.cfg_scale > 1)

    def engine(self, request: Request) -> dict[str, Any]:
        """See `DiffusersModel.engine`: the pipeline rescales, and has a CFG scale for each stream."""
        asked = arguments(request)
        scales = (asked["guidance_scale"], asked["audio_guidance_scale"])
        return {"guidance": replace(request.guidance, rescale=0.0, rescale_pieces=()), "told_scales": scales}

    def load(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> LTX2Generator:
        """See `Model.load`."""
        found = super().load(device=device, dtype=dtype, weights=weights, settings=settings)
        return LTX2Generator(found.pipeline, self, device)


MODEL = LTX2(
    card=ModelCard(
        name="ltx2",
        title="LTX-2",
        weights=CHECKPOINT.source,
        task="text-to-video",
        height=512,
        width=768,
        num_frames=121,
        fps=24.0,
        num_inference_steps=40,
        dtype="bfloat16",
        presets={
            "none": Preset(Guidance.parse("none")),
            "cfg": Preset(Guidance.parse("cfg3+rescale0.7")),
            "stg": Preset(Guidance.parse("cfg3+stg-a[29]w1+rescale0.7"), source="its repository's default for 2.0"),
            "vendor": Preset(Guidance.parse("cfg3+stg-a[29]w1+rescale0.7"), source="its repository's default for 2.0"),
        },
        settings={**MEMORY_SETTINGS, "modality_scale": 3.0, "audio_guidance_scale": 7.0},
        tflops_per_pass=198.8,
        num_layers=48,
    ),
    pipeline="LTX2Pipeline",
    small=small,
    arguments=arguments,
    layer_map=LayerMap(
        model="LTX-2",
        layers=stack(joint="transformer_blocks"),
        also=("audio_attn1",),
        streams=("hidden_states", "audio_hidden_states"),
        joint_identity=dict.fromkeys(("LTX2AudioVideoAttnProcessor", "LTX2PerturbedAttnProcessor"), identity),
        outputs=2,
        c_is_reference=True,
        passes_by=lambda kwargs: bool(kwargs.get("isolate_modalities")),
    ),
    smoke={**SMOKE, "num_frames": 17},
    checkpoints=(CHECKPOINT,),
    size_multiple=32,
    frames_multiple=8,
    min_steps=2,  # its schedule ends at a level of its own, to which one step alone cannot be stretched
)
