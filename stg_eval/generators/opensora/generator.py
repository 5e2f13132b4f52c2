"""Clips of Open-Sora 1.2 for requests: the pipeline, with any skip guidance around its transformer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from stg_eval.generators import to_uint8
from stg_eval.generators.guidance.engine import guided
from stg_eval.generators.guidance.layers import LayerMap, stack
from stg_eval.generators.opensora.pipeline import OpenSoraPipeline
from stg_eval.generators.opensora.random_weights import random_pipeline
from stg_eval.types import JSONValue, Request, StgEvalError


def _token_grid(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, int, int]:
    latents = args[0] if args else kwargs["hidden_states"]
    return latents.shape[2], math.ceil(latents.shape[3] / 2), math.ceil(latents.shape[4] / 2)


LAYER_MAP = LayerMap(
    model="Open-Sora",
    layers=stack(spatial="spatial_blocks", temporal="temporal_blocks"),
    attention="attn",
    streams=("x",),
    channels=4,
    grid=_token_grid,
)
"""Layers count from 0; layer i is spatial_blocks.i and temporal_blocks.i."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class OpenSoraGenerator:
    """A loaded model. See `stg_eval.generators.Generator`."""

    def __init__(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> None:
        if dtype not in _DTYPES:
            raise StgEvalError(f"opensora runs in {', '.join(_DTYPES)}, not {dtype}")
        if weights.startswith("random-weights("):
            self.pipe = random_pipeline(weights, _DTYPES[dtype])
        else:
            self.pipe = OpenSoraPipeline.from_pretrained(
                weights, str(settings["vae"]), str(settings["text_encoder"]), _DTYPES[dtype]
            )
        self.pipe.set_progress_bar_config(disable=True)
        if settings.get("offload"):
            self.pipe.enable_model_cpu_offload(device=device)
        else:
            self.pipe.to(device)

    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        """Frames uint8 [num_frames, H, W, 3], sides rounded down to multiples of 8; one request after the other, so
        that a clip is the same to the bit whatever else is asked for. See the contract of `Generator`.

        Raises StgEvalError for 2 to 16 frames and for a negative prompt or first frame, which Open-Sora does not take.
        """
        return [self._clip(request) for request in requests]

    def _clip(self, request: Request) -> np.ndarray | StgEvalError:
        if request.case.negative_prompt or request.case.image:
            raise StgEvalError(
                f"opensora shows prompts only, and case {request.case.id!r} has a negative prompt or a first frame; "
                "remove it"
            )
        settings: dict[str, Any] = dict(request.settings)
        generator = torch.Generator().manual_seed(request.noise_seed)
        cfg_scale = request.guidance.cfg_scale
        with guided(
            self.pipe.transformer,
            request.guidance,
            LAYER_MAP,
            batch_order="c" if cfg_scale == 1 else "cu",
            scheduler=self.pipe.scheduler,
            generators=[generator],
        ):
            clip = self.pipe(
                request.case.prompt,
                height=request.height,
                width=request.width,
                num_frames=request.num_frames,
                fps=request.fps,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=cfg_scale,
                aesthetic_score=settings.get("aesthetic_score"),
                motion_score=settings.get("motion_score"),
                camera_motion=settings.get("camera_motion"),
                generator=generator,
            ).frames[0]
        return to_uint8(clip)
