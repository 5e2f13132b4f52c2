"""Any diffusers video pipeline as a model: load it, guide it, one clip at a time. Imports no torch until it is loaded.

A model's own file (svd.py, mochi.py, ...) says what is particular to its pipeline in a `DiffusersModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval.generators.loading import enough_memory, open_pipeline, pinned, place
from stg_eval.generators.model import Model, to_uint8
from stg_eval.generators.speed import hasten
from stg_eval.types import JSONValue, Request, StgEvalError

if TYPE_CHECKING:
    import torch

    from stg_eval.generators.guidance.engine import BatchOrder


def text_arguments(request: Request) -> dict[str, Any]:
    """Say what text-to-video pipelines need beside the common arguments."""
    return {
        "prompt": request.case.prompt,
        "negative_prompt": request.case.negative_prompt,
        "guidance_scale": request.guidance.cfg_scale,
    }


@dataclass(frozen=True, kw_only=True)
class DiffusersModel(Model):
    """A model that is one diffusers pipeline."""

    pipeline: str
    """Class name in diffusers."""
    small: Callable[[], Any] | None = None
    """Builds that pipeline with as many layers as the published one and a few channels, on the CPU in float32."""
    arguments: Callable[[Request], dict[str, Any]] = text_arguments
    """Arguments of the pipeline's call that only this model has: conditions and CFG scale."""
    batch_order: BatchOrder = "uc"
    """Rows of a denoiser call under CFG."""
    denoisers: tuple[str, ...] = ("transformer",)
    """Names of the pipeline's components that are guided; where there are several, each has steps of its own."""
    size_multiple: int = 8
    clip_multiple: int = 1
    """Clips come out with height and width rounded down to multiples of it."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """dtype -> variant of the files on the hub, where the repository has one: half the download, the same values."""
    float32: tuple[str, ...] = ()
    """Components that stay in float32 whatever the dtype."""
    whole_fps: bool = False
    """The model is told the frame rate as a whole number."""

    def check(self, request: Request) -> None:
        """See `Model.check`; pipelines run no classifier-free guidance below a scale of 1."""
        super().check(request)
        if request.guidance.cfg_scale < 1:
            raise StgEvalError(f"{self.card.name} has no CFG scale below 1 (1 is off), not {request.guidance}")
        if self.whole_fps and request.fps != int(request.fps):
            raise StgEvalError(f"{self.card.name} takes whole frames a second, not {request.fps:g}")

    def engine(self, request: Request) -> dict[str, Any]:
        """Arguments of `guided`: the guidance, where the pipeline does a part of it itself without that."""
        return {"guidance": request.guidance}

    def prepare(self, pipeline: Any, cfg_scale: float) -> None:
        """Tell a pipeline its CFG scale where its call does not take it."""

    def load(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> PipelineGenerator:
        """See `Model.load`."""
        with enough_memory(weights, device, settings):
            pipeline = self.open(dtype=dtype, weights=weights, settings=settings)
            hasten([getattr(pipeline, name) for name in self.denoisers], self.layer_map, settings)
            place(pipeline, device, settings)
        return PipelineGenerator(pipeline, self, device)

    def around(self, live: Any, *, device: str, dtype: str) -> PipelineGenerator:
        """See `Model.around`; `live` is a whole pipeline, with the network that is trained in its place."""
        if type(live).__name__ != self.pipeline:
            raise StgEvalError(f"{self.card.name} is a {self.pipeline}, not a {type(live).__name__}; give the pipeline")
        return PipelineGenerator(live, self, device)

    def open(self, *, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Any:
        """Return the pipeline on the CPU. `weights`: a hub id with or without @revision, a local folder, or what
        `small` builds for "random-weights(seed=N)"."""
        return open_pipeline(
            self.pipeline, self.small, variants=self.variants, float32=self.float32, dtype=dtype, weights=weights
        )


class PipelineGenerator:
    """A loaded pipeline. See `stg_eval.generators.Generator`.

    Clips are made one after the other: models of this size fill a device with one, and a clip then cannot depend on
    what else was asked for.
    """

    def __init__(self, pipeline: Any, model: DiffusersModel, device: str) -> None:
        from stg_eval.generators.prompts import encode_once

        self.pipeline, self.model, self.device = pipeline, model, device
        self.weaker: tuple[str, list[Any]] = ("", [])
        pipeline.set_progress_bar_config(disable=True)
        encode_once(pipeline)

    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        """Return frames uint8 [num_frames, height, width, 3] for each request; see the contract of `Generator`.

        Raises StgEvalError for a size or frame count the model cannot make, a layer or method it does not have, and
        too little memory.
        """
        return [self._clip(request) for request in requests]

    def one_step_views(self, request: Request, step: int) -> dict[str, np.ndarray | StgEvalError]:
        """See `Generator`."""
        from stg_eval.generators.guidance.views import one_step

        with (
            self._guided(request) as (predictions, generator),
            one_step(self.pipeline.scheduler, predictions, step, request.num_inference_steps) as views,
        ):
            self._run(request, generator)
        return {name: self._decode(request, latents) for name, latents in views.items()}

    def _clip(self, request: Request) -> np.ndarray | StgEvalError:
        with self._guided(request) as (_, generator):
            return self._run(request, generator)

    @contextmanager
    def _guided(self, request: Request) -> Iterator[tuple[Any, torch.Generator]]:
        import torch

        from stg_eval.generators.guidance.engine import guided

        self.model.check(request)
        # on the CPU whatever the device, so that a request's noise is the same on every machine
        generator = torch.Generator("cpu").manual_seed(request.noise_seed)
        with guided(
            self._denoisers(self.pipeline),
            layer_map=self.model.layer_map,
            batch_order=self.model.batch_order if request.guidance.cfg_scale > 1 else "c",
            scheduler=self.pipeline.scheduler,
            generators=[generator],
            weaker=self._weaker(request) if request.guidance.auto else [],
            **self.model.engine(request),
        ) as predictions:
            yield predictions, generator

    def _denoisers(self, pipeline: Any) -> list[Any]:
        return [getattr(pipeline, name) for name in self.model.denoisers]

    def _weaker(self, request: Request) -> list[Any]:
        """Return the denoisers of the checkpoint that AutoGuidance goes away from; the last ones are kept."""
        assert request.guidance.auto
        weights = request.guidance.auto.weights
        if self.weaker[0] != weights:
            with enough_memory(weights, self.device, dict(request.settings)):
                pipeline = self.model.open(
                    dtype=request.dtype, weights=pinned(weights), settings=dict(request.settings)
                )
                hasten(self._denoisers(pipeline), self.model.layer_map, dict(request.settings))
                self.weaker = weights, [one.to(self.device) for one in self._denoisers(pipeline)]
        return self.weaker[1]

    def _run(self, request: Request, generator: torch.Generator, **changes: Any) -> np.ndarray | StgEvalError:
        what = f"{request.num_frames} frames of {request.height}x{request.width}"
        self.model.prepare(self.pipeline, request.guidance.cfg_scale)
        with enough_memory(what, self.device, dict(request.settings)):
            output = self.pipeline(
                **{
                    "height": request.height,
                    "width": request.width,
                    "num_frames": request.num_frames,
                    "num_inference_steps": request.num_inference_steps,
                    "generator": generator,
                    "output_type": "np",
                    **self.model.arguments(request),
                    **changes,
                }
            )
        frames = to_uint8(np.asarray(output.frames[0]))
        multiple = self.model.clip_multiple
        wanted = (request.num_frames, *(side - side % multiple for side in (request.height, request.width)), 3)
        if isinstance(frames, np.ndarray) and frames.shape != wanted:
            raise StgEvalError(f"{request.model} made frames {frames.shape} instead of {wanted}; ask for that size")
        return frames

    def _decode(self, request: Request, latents: torch.Tensor) -> np.ndarray | StgEvalError:
        """Decode latents as the pipeline does at its end: its call is run without the denoiser, with `latents` as the
        result."""
        import torch

        from stg_eval.generators.guidance.schedulers import replaced_methods

        scheduler = self.pipeline.scheduler
        rows = 2 if request.guidance.cfg_scale > 1 and self.model.batch_order != "c,u" else 1
        output = torch.cat([latents] * rows)

        def result(model_output: Any, timestep: Any, sample: torch.Tensor, **kwargs: Any) -> Any:
            x = latents.to(sample.dtype)
            return _Step(x) if kwargs.get("return_dict", True) else (x,)

        layers = self.model.layer_map
        others = layers.streams[1 : layers.outputs]  # whatever they are: their prediction changes no frame

        def given(*_: Any, return_dict: bool = True, **inputs: Any) -> Any:
            return output if return_dict else (output, *(inputs[name] for name in others))

        with ExitStack() as stack:
            for denoiser in self._denoisers(self.pipeline):
                stack.enter_context(replaced_methods(denoiser, forward=given))
            stack.enter_context(replaced_methods(scheduler, step=result))
            return self._run(request, torch.Generator("cpu").manual_seed(0), num_inference_steps=self.model.min_steps)


class _Step:
    def __init__(self, prev_sample: Any) -> None:
        self.prev_sample = prev_sample
