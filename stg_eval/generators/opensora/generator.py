"""Clips of Open-Sora 1.2 for requests: the pipeline, with any skip guidance around its transformer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from stg_eval.generators import to_uint8, torch_dtype
from stg_eval.generators.diffusers_video import enough_memory, place
from stg_eval.generators.guidance.engine import Predictions, guided
from stg_eval.generators.guidance.views import one_step
from stg_eval.generators.opensora.card import CARD, LAYER_MAP
from stg_eval.generators.opensora.pipeline import OpenSoraPipeline
from stg_eval.generators.opensora.random_weights import random_pipeline
from stg_eval.generators.random_weights import is_random
from stg_eval.types import JSONValue, Request, StgEvalError


class OpenSoraGenerator:
    """A loaded model. See `stg_eval.generators.Generator`."""

    def __init__(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> None:
        self.device, kind = device, torch_dtype(dtype)
        settings = {**CARD.settings, **settings}
        with enough_memory(weights, device, settings):
            if is_random(weights):
                self.pipe = random_pipeline(weights, kind)
            else:
                self.pipe = OpenSoraPipeline.from_pretrained(
                    weights, str(settings["vae"]), str(settings["text_encoder"]), kind
                )
            place(self.pipe, device, settings)
        self.pipe.set_progress_bar_config(disable=True)

    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        """Frames uint8 [num_frames, H, W, 3], sides rounded down to multiples of 8; one request after the other, so
        that a clip is the same to the bit whatever else is asked for. See the contract of `Generator`.

        Raises StgEvalError for 2 to 16 frames, for a negative prompt or first frame, which Open-Sora does not take, and
        for too little memory.
        """
        return [self._clip(request) for request in requests]

    def one_step_views(self, request: Request, step: int) -> dict[str, np.ndarray | StgEvalError]:
        """The clean clips that each prediction of one step implies (Fig. 18 and 19), frames as `generate` gives them.

        step: 0 is the first of request.num_inference_steps. Keys: see `stg_eval.generators.guidance.views.one_step`.
        """
        if not 0 <= step < request.num_inference_steps:
            raise StgEvalError(f"step {step} is not one of the {request.num_inference_steps} steps, 0 is the first")
        with (
            self._guided(request) as (predictions, generator),
            one_step(self.pipe.scheduler, predictions, step) as views,
        ):
            self._run(request, generator, output_type="latent")
        return {
            name: to_uint8(self.pipe.decode_latents(latents, request.num_frames)[0]) for name, latents in views.items()
        }

    def _clip(self, request: Request) -> np.ndarray | StgEvalError:
        with self._guided(request) as (_, generator):
            return to_uint8(self._run(request, generator)[0])

    @contextmanager
    def _guided(self, request: Request) -> Iterator[tuple[Predictions, torch.Generator]]:
        if request.case.negative_prompt or request.case.image:
            raise StgEvalError(
                f"opensora shows prompts only, and case {request.case.id!r} has a negative prompt or a first frame; "
                "remove it"
            )
        generator = torch.Generator("cpu").manual_seed(request.noise_seed)  # the same noise on every device
        with guided(
            self.pipe.transformer,
            request.guidance,
            LAYER_MAP,
            batch_order="c" if request.guidance.cfg_scale == 1 else "cu",
            scheduler=self.pipe.scheduler,
            generators=[generator],
        ) as predictions:
            yield predictions, generator

    def _run(self, request: Request, generator: torch.Generator, **changes: Any) -> Any:
        settings: dict[str, Any] = dict(request.settings)
        what = f"{request.num_frames} frames of {request.height}x{request.width}"
        with enough_memory(what, self.device, settings):
            return self.pipe(
                request.case.prompt,
                height=request.height,
                width=request.width,
                num_frames=request.num_frames,
                fps=request.fps,
                num_inference_steps=request.num_inference_steps,
                guidance_scale=request.guidance.cfg_scale,
                aesthetic_score=settings.get("aesthetic_score"),
                motion_score=settings.get("motion_score"),
                camera_motion=settings.get("camera_motion"),
                generator=generator,
                **changes,
            ).frames
