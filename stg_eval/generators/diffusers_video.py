"""Any diffusers video pipeline as a generator: load it, guide it, one clip at a time.

A model's own file (svd.py, mochi.py, ...) says what is particular to it in a `Family`, next to its card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from stg_eval.generators import to_uint8, torch_dtype
from stg_eval.generators.guidance.layers import LayerMap
from stg_eval.generators.random_weights import is_random, random_pipeline
from stg_eval.types import JSONValue, Request, StgEvalError

if TYPE_CHECKING:
    import torch

    from stg_eval.generators.guidance.engine import BatchOrder

MEMORY_SETTINGS: dict[str, JSONValue] = {"offload": "none", "vae_tiling": False}
"""Settings of the models here: offload "none", "model" (whole networks wait on the CPU) or "sequential" (every layer
does: least memory, slowest); vae_tiling, where the VAE can, decodes in overlapping tiles, which changes pixels
slightly."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is particular to one diffusers pipeline."""

    pipeline: str
    """Class name in diffusers."""
    layer_map: LayerMap
    arguments: Callable[[Request], dict[str, Any]]
    """Arguments of the pipeline's call that only this family has: conditions and CFG scale."""
    batch_order: BatchOrder = "uc"
    """Rows of a denoiser call under CFG."""
    denoiser: str = "transformer"
    """Name of the pipeline's component that is guided."""
    size_multiple: int = 8
    """Height and width must be divisible by it."""
    frames_multiple: int = 1
    """num_frames - 1 must be divisible by it."""
    min_steps: int = 1
    """Fewest steps of the pipeline's schedule."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """dtype -> variant of the files on the hub, where the repository has one: half the download, the same values."""
    float32: tuple[str, ...] = ()
    """Components that stay in float32 whatever the dtype."""
    whole_fps: bool = False
    """The model is told the frame rate as a whole number."""

    def check(self, request: Request) -> None:
        """Raises StgEvalError for a request that the pipeline cannot make; see `stg_eval.generators.check`."""
        size, frames = self.size_multiple, self.frames_multiple
        if request.height % size or request.width % size:
            raise StgEvalError(
                f"{request.model} needs height and width divisible by {size}, not {request.height}x{request.width}"
            )
        if (request.num_frames - 1) % frames:
            near = 1 + max(1, round((request.num_frames - 1) / frames)) * frames
            raise StgEvalError(
                f"{request.model} makes 1 + a multiple of {frames} frames, not {request.num_frames}; try {near}"
            )
        if request.num_inference_steps < self.min_steps:
            raise StgEvalError(f"{request.model} needs at least {self.min_steps} steps")
        if request.guidance.cfg_scale < 1:
            raise StgEvalError(f"{request.model} has no CFG scale below 1 (1 is off), not {request.guidance}")
        if self.whole_fps and request.fps != int(request.fps):
            raise StgEvalError(f"{request.model} takes whole frames a second, not {request.fps:g}")


class PipelineGenerator:
    """A loaded pipeline. See `stg_eval.generators.Generator`.

    Clips are made one after the other: models of this size fill a device with one, and a clip then cannot depend on
    what else was asked for.
    """

    def __init__(self, pipeline: Any, family: Family, device: str) -> None:
        self.pipeline, self.family, self.device = pipeline, family, device
        pipeline.set_progress_bar_config(disable=True)

    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        """Frames uint8 [num_frames, height, width, 3] for each request; see the contract of `Generator`.

        Raises StgEvalError for a size or frame count the model cannot make, a layer or method it does not have, and
        too little memory.
        """
        return [self._clip(request) for request in requests]

    def one_step_views(self, request: Request, step: int) -> dict[str, np.ndarray | StgEvalError]:
        """The clean clips that each prediction of one step implies (Fig. 18 and 19), frames as `generate` gives them.

        step: 0 is the first of request.num_inference_steps. Keys: see `stg_eval.generators.guidance.views.one_step`.
        """
        from stg_eval.generators.guidance.views import one_step

        if not 0 <= step < request.num_inference_steps:
            raise StgEvalError(f"step {step} is not one of the {request.num_inference_steps} steps, 0 is the first")
        with (
            self._guided(request) as (predictions, generator),
            one_step(self.pipeline.scheduler, predictions, step) as views,
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

        self.family.check(request)
        # on the CPU whatever the device, so that a request's noise is the same on every machine
        generator = torch.Generator("cpu").manual_seed(request.noise_seed)
        with guided(
            getattr(self.pipeline, self.family.denoiser),
            request.guidance,
            self.family.layer_map,
            batch_order=self.family.batch_order if request.guidance.cfg_scale > 1 else "c",
            scheduler=self.pipeline.scheduler,
            generators=[generator],
        ) as predictions:
            yield predictions, generator

    def _run(self, request: Request, generator: torch.Generator, **changes: Any) -> np.ndarray | StgEvalError:
        what = f"{request.num_frames} frames of {request.height}x{request.width}"
        with enough_memory(what, self.device, dict(request.settings)):
            output = self.pipeline(
                **{
                    "height": request.height,
                    "width": request.width,
                    "num_frames": request.num_frames,
                    "num_inference_steps": request.num_inference_steps,
                    "generator": generator,
                    "output_type": "np",
                    **self.family.arguments(request),
                    **changes,
                }
            )
        frames = to_uint8(np.asarray(output.frames[0]))
        wanted = (request.num_frames, request.height, request.width, 3)
        if isinstance(frames, np.ndarray) and frames.shape != wanted:
            raise StgEvalError(f"{request.model} made frames {frames.shape} instead of {wanted}; ask for that size")
        return frames

    def _decode(self, request: Request, latents: torch.Tensor) -> np.ndarray | StgEvalError:
        """Latents to frames by the pipeline's own last lines: a run without a denoiser whose result is `latents`."""
        import torch

        from stg_eval.generators.guidance.schedulers import replaced_methods

        denoiser, scheduler = getattr(self.pipeline, self.family.denoiser), self.pipeline.scheduler
        rows = 2 if request.guidance.cfg_scale > 1 and self.family.batch_order != "c,u" else 1
        output = torch.cat([latents] * rows)

        def result(model_output: Any, timestep: Any, sample: torch.Tensor, **kwargs: Any) -> Any:
            x = latents.to(sample.dtype)
            return _Step(x) if kwargs.get("return_dict", True) else (x,)

        with (
            replaced_methods(denoiser, forward=lambda *args, **kwargs: (output,)),
            replaced_methods(scheduler, step=result),
        ):
            return self._run(request, torch.Generator("cpu").manual_seed(0), num_inference_steps=self.family.min_steps)


class _Step:
    def __init__(self, prev_sample: Any) -> None:
        self.prev_sample = prev_sample


def text_arguments(request: Request) -> dict[str, Any]:
    """What text-to-video pipelines need beside the common arguments."""
    return {
        "prompt": request.case.prompt,
        "negative_prompt": request.case.negative_prompt,
        "guidance_scale": request.guidance.cfg_scale,
    }


def load_pipeline(
    family: Family, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]
) -> PipelineGenerator:
    """Load `weights`: a hub id with or without @revision, a local folder, or "random-weights(seed=N)".

    Raises StgEvalError that says what to do: missing or gated checkpoint, no such device, too little memory.
    """
    with enough_memory(weights, device, settings):
        pipeline = open_pipeline(
            family.pipeline, variants=family.variants, float32=family.float32, dtype=dtype, weights=weights
        )
        place(pipeline, device, settings)
    return PipelineGenerator(pipeline, family, device)


def open_pipeline(
    kind: str,
    *,
    dtype: str,
    weights: str,
    variants: Mapping[str, str] = MappingProxyType({}),
    float32: Sequence[str] = (),
) -> Any:
    """The diffusers pipeline `kind` from a hub id, a folder or random weights, on the CPU in `dtype`.

    variants and float32: see Family.
    """
    import diffusers
    import torch

    default = torch_dtype(dtype)
    if is_random(weights):
        pipeline = random_pipeline(kind, weights)
        return pipeline if dtype == "float32" else pipeline.to(default)  # which warns, whatever it is asked for
    local = Path(weights).expanduser().is_dir()
    name, _, revision = (str(Path(weights).expanduser()), "", "") if local else weights.partition("@")
    problem: Exception | None = None
    for variant in dict.fromkeys((variants.get(dtype), None)):
        try:
            return getattr(diffusers, kind).from_pretrained(
                name,
                revision=revision or None,
                variant=variant,
                dtype={"default": default, **dict.fromkeys(float32, torch.float32)},
            )
        except (OSError, ValueError, RuntimeError) as error:  # hub and file errors of huggingface_hub are OSErrors
            if isinstance(error, torch.OutOfMemoryError):
                raise
            if problem is None or "no such modeling files" in str(problem):  # of that variant, which is no reason yet
                problem = error
    assert problem is not None
    raise StgEvalError(_advice(name, kind, local, problem)) from problem


def place(pipeline: Any, device: str, settings: Mapping[str, JSONValue]) -> None:
    """Put a pipeline on its device as MEMORY_SETTINGS say."""
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise StgEvalError("this machine has no CUDA device; leave out --device or give --device cpu")
    offload = settings.get("offload", "none")
    if offload not in ("none", "model", "sequential"):
        raise StgEvalError(f"offload is none, model or sequential, not {offload!r}")
    if offload != "none" and device == "cpu":
        raise StgEvalError(f"offload={offload} moves networks between CPU and GPU; leave it out on the CPU")
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if settings.get("vae_tiling"):
        try:
            pipeline.vae.enable_tiling()
        except (AttributeError, NotImplementedError) as error:
            raise StgEvalError(f"{type(pipeline.vae).__name__} cannot decode in tiles; leave out vae_tiling") from error


@contextmanager
def enough_memory(
    what: str, device: str, settings: Mapping[str, JSONValue], smaller: str = "a smaller size or fewer frames"
) -> Iterator[None]:
    """Turn a failed allocation, on a GPU or the CPU, into one line of advice.

    settings: the model's, with the values that did not suffice; only those that are there and have more to give are
    advised."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        message = str(error)
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in message:
            raise
        advice = []
        if device != "cpu" and settings.get("offload") in ("none", "model"):
            both = settings["offload"] == "none"
            advice.append("--set offload=model (or sequential)" if both else "--set offload=sequential")
        if settings.get("vae_tiling") is False:
            advice.append("--set vae_tiling=true")
        advice.append(smaller)
        raise StgEvalError(f"too little memory for {what}: try {', '.join(advice)}") from error


def _advice(name: str, kind: str, local: bool, problem: Exception) -> str:
    if local:
        return (
            f"{name} holds no {kind} that diffusers can open ({_first_line(problem)}); give the folder of a whole one"
        )
    chain: list[BaseException] = []
    error: BaseException | None = problem
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    names = {type(e).__name__ for e in chain}
    text = " ".join(str(e) for e in chain)
    if "GatedRepoError" in names or "gated repo" in text:
        return f"{name} is gated: accept its licence at https://huggingface.co/{name}, then run: hf auth login"
    if "RevisionNotFoundError" in names:
        return f"{name} has no such revision; give one listed at https://huggingface.co/{name}/commits/main"
    if "RepositoryNotFoundError" in names:
        return f"no model {name!r} on the hub, nor a folder of that name; check --set weights="
    return (
        f"{name} is not on this machine and could not be fetched ({_first_line(problem)}); connect once, or copy the "
        f"checkpoint here and give its folder: --set weights=FOLDER"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
