"""Open-Sora 1.2's card: what a plan needs to know of it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance.layers import LayerMap, stack
from stg_eval.generators.model import SMOKE, ModelCard, Preset, torch_dtype
from stg_eval.generators.opensora.hub import CHECKPOINTS, TEXT_ENCODER, TRANSFORMER, VAE
from stg_eval.generators.opensora.sizes import image_size, timestep_shift
from stg_eval.generators.random_weights import is_random
from stg_eval.types import Guidance, JSONValue, Request, StgEvalError

_HEIGHT, _WIDTH = image_size("240p", "9:16")
_METRICS = ("imaging_quality", "aesthetic_quality", "motion_smoothness", "dynamic_degree", "temporal_flickering")


def _preset(signature: str, published: tuple[float, ...], source: str) -> Preset:
    return Preset(Guidance.parse(signature), dict(zip(_METRICS, published, strict=True)), source)


CARD = ModelCard(
    name="opensora",
    title="Open-Sora 1.2",
    weights=TRANSFORMER,
    task="text-to-video",
    height=_HEIGHT,
    width=_WIDTH,  # the clip is 424 wide: latents are rounded down to whole steps of 8, as in the original
    num_frames=51,
    fps=24.0,
    num_inference_steps=30,
    dtype="bfloat16",
    presets={
        "none": Preset(Guidance()),
        "cfg": _preset("cfg7", (0.561, 0.493, 0.982, 0.902, 0.975), "Table 1"),
        "stg": _preset("cfg7+stg-a[11]s2t2", (0.606, 0.509, 0.987, 0.895, 0.976), "Tables 1 and 3"),
        "stg-r": _preset("cfg7+stg-r[11]s1t1", (0.550, 0.474, 0.981, 0.894, 0.977), "Table 3"),
    },
    settings={
        "aesthetic_score": 6.5,  # appended to the prompt as " aesthetic score: 6.5."
        "motion_score": None,  # the same for " motion score: ..."
        "camera_motion": None,  # and " camera motion: pan right."
        "vae": VAE,
        "text_encoder": TEXT_ENCODER,
        "offload": "none",  # see stg_eval.generators.loading.MEMORY_SETTINGS
    },
    tflops_per_pass=13.5,
    num_layers=28,
)


def _token_grid(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    latents = args[0] if args else kwargs["hidden_states"]
    return latents.shape[2], math.ceil(latents.shape[3] / 2), math.ceil(latents.shape[4] / 2)


def arguments(request: Request) -> dict[str, Any]:
    """Say what the pipeline needs beside the common arguments."""
    settings = dict(request.settings)
    return {
        "prompt": request.case.prompt,
        "fps": request.fps,
        "guidance_scale": request.guidance.cfg_scale,
        **{name: settings.get(name) for name in ("aesthetic_score", "motion_score", "camera_motion")},
    }


class OpenSora(DiffusersModel):
    """Open-Sora's pipeline comes in three parts, and shows prompts only."""

    def check(self, request: Request) -> None:
        """See `Model.check`; also refuses 2 to 16 frames, a negative prompt and a first frame."""
        super().check(request)
        timestep_shift(request.num_frames, request.height, request.width)
        if request.case.negative_prompt or request.case.image:
            raise StgEvalError(
                f"opensora shows prompts only, and case {request.case.id!r} has a negative prompt or a first frame; "
                "remove it"
            )

    def open(self, *, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Any:
        """`weights` is the transformer's hub id or local folder; settings `vae` and `text_encoder` name the other two.

        ``random-weights(seed=0)`` is a tiny model of all 28 layers for trying things out on a CPU, and
        ``random-weights(full,seed=0)`` one of the released size for timing; their clips are noise. Raises StgEvalError
        where a part is missing, incomplete or of another kind.
        """
        kind = torch_dtype(dtype)
        from stg_eval.generators.opensora.pipeline import OpenSoraPipeline
        from stg_eval.generators.opensora.small import small_pipeline

        if is_random(weights):
            return small_pipeline(weights, kind)
        parts = {**self.card.settings, **settings}
        return OpenSoraPipeline.from_pretrained(weights, str(parts["vae"]), str(parts["text_encoder"]), kind)


MODEL = OpenSora(
    card=CARD,
    pipeline="OpenSoraPipeline",
    arguments=arguments,
    layer_map=LayerMap(
        model="Open-Sora",
        layers=stack(spatial="spatial_blocks", temporal="temporal_blocks"),
        attention="attn",
        streams=("x",),
        channels=4,
        grid=_token_grid,
    ),
    batch_order="cu",
    size_multiple=1,
    clip_multiple=8,
    smoke={**SMOKE, "width": 136, "num_frames": 17},  # an odd latent width, as the released size has
    checkpoints=CHECKPOINTS,
)
"""Layers count from 0; layer i is spatial_blocks.i and temporal_blocks.i."""
