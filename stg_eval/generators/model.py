"""What a model is: its card, its layers, what it can make, what it costs, and how it is loaded. Imports no torch.

A model's own file builds one `Model` and names it MODEL; see ltx.py for the smallest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from stg_eval.generators.guidance.costs import passes_a_step
from stg_eval.generators.guidance.layers import LayerMap
from stg_eval.types import Guidance, JSONValue, Request, StgEvalError
from stg_eval.weights import Weight

DTYPES = ("float32", "bfloat16", "float16")

SMOKE: Mapping[str, JSONValue] = {
    "weights": "random-weights(seed=0)",
    "dtype": "float32",
    "height": 128,
    "width": 128,
    "num_inference_steps": 2,
}
"""What the smoke settings of most models share. VBench's networks see nothing below 121 pixels a side."""


@dataclass(frozen=True)
class Preset:
    """A named guidance with the numbers the paper published for it, for printing beside ours."""

    guidance: Guidance
    published: Mapping[str, float] = field(default_factory=dict)
    """Metric name -> published value, e.g. {"fvd": 128.7, "is": 38.5}."""
    source: str = ""
    """Where the values stand, e.g. "Table 2"."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a plan needs to know about a model, without loading it."""

    name: str
    title: str
    weights: str
    """Default checkpoint: hub id @ revision, or "embedded"."""
    task: Literal["class-to-video", "text-to-video", "image-to-video"]
    height: int
    width: int
    num_frames: int
    fps: float
    num_inference_steps: int
    dtype: str
    encoding: str = "h264-crf17"
    batch_size: int = 1
    presets: Mapping[str, Preset]
    """"none", "cfg" and "stg" at least; `--guidance stg` means presets["stg"]."""
    settings: Mapping[str, JSONValue] = field(default_factory=dict)
    """Model-specific settings with their defaults; `--set name=value` changes one."""
    tflops_per_pass: float = 0.0
    """One conditional forward pass of the denoiser at the default size, in TFLOP."""
    num_layers: int
    """Layers of the published denoiser, for checking layer numbers and counting costs before it is loaded."""


class Generator(Protocol):
    """A loaded model. The smallest is that of `examples/own_model`."""

    def generate(self, requests: Sequence[Request]) -> Sequence[np.ndarray | StgEvalError]:
        """Return frames for each request, in order: uint8 [num_frames, height, width, 3], RGB, as `to_uint8` makes
        them; an error in the place of a clip that is not finite.

        All requests of one call share guidance, size, num_frames, num_inference_steps and settings. Each draws its
        noise from a generator of its own, seeded with `request.noise_seed`, so a clip does not depend on its batch.
        """
        ...

    def one_step_views(self, request: Request, step: int) -> Mapping[str, np.ndarray | StgEvalError]:
        """Return the clean clips that each prediction of one step implies (Fig. 18 and 19), frames as `generate` gives
        them.

        step: 0 is the first of request.num_inference_steps. Keys: see `stg_eval.generators.guidance.views.one_step`.
        Raises StgEvalError for a step that there is not.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """A model that runs can name. Derive from it, write `load`, and make one: ``MODEL = Mine(card=..., ...)``."""

    card: ModelCard
    layer_map: LayerMap
    shares: Mapping[str, float] | None = None
    """Path of a block -> what a weak pass from there on costs, in passes. None where all blocks cost the same."""
    smoke: Mapping[str, JSONValue] = field(default_factory=dict)
    """Settings (`weights`, height, ...) that make the model small, quick and random, for trying a whole run on any
    machine. Empty for a model that has none."""
    checkpoints: tuple[Weight, ...] = ()
    """What is fetched before the model runs with its default settings."""
    size_multiple: int = 1
    """Height and width must be divisible by it."""
    frames_multiple: int = 1
    """num_frames - 1 must be divisible by it."""
    min_steps: int = 1
    """Fewest steps of the model's schedule."""

    @abstractmethod
    def load(self, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
        """Load the weights. `weights` is the card's checkpoint, another hub id, a local folder, or the smoke weights.

        Raises StgEvalError that says what to do when a checkpoint is missing, gated or of the wrong kind.
        """

    def around(self, live: Any, *, device: str, dtype: str) -> Generator:
        """Return the model around what is in memory: the network or the pipeline that is being trained.

        Raises StgEvalError where the model knows no such way, or for a thing of another kind.
        """
        raise StgEvalError(
            f"{self.card.name} takes no network from memory; write its Model.around, or save and load it"
        )

    def cost(self, guidance: Guidance, num_inference_steps: int = 0) -> float:
        """Return passes of the denoiser a step, counted in full conditional passes: 1 without guidance, 2 with CFG, and
        for each weak pass the share of the network behind the skipped layer (the prefix is shared). Where terms have
        windows: on average over the steps, the card's number if none is given.

        Raises StgEvalError for layers and scales that the model does not have.
        """
        steps = num_inference_steps or self.card.num_inference_steps
        return passes_a_step(guidance, self.layer_map, self.card.num_layers, steps, self.shares)

    def check(self, request: Request) -> None:
        """Refuse, before anything is loaded, what the model could not make: a size, a frame count, too few steps.

        Raises StgEvalError.
        """
        size, frames, name = self.size_multiple, self.frames_multiple, self.card.name
        if request.height % size or request.width % size:
            raise StgEvalError(
                f"{name} needs height and width divisible by {size}, not {request.height}x{request.width}"
            )
        if (request.num_frames - 1) % frames:
            near = 1 + max(1, round((request.num_frames - 1) / frames)) * frames
            raise StgEvalError(f"{name} makes 1 + a multiple of {frames} frames, not {request.num_frames}; try {near}")
        if request.num_inference_steps < self.min_steps:
            raise StgEvalError(f"{name} needs at least {self.min_steps} steps")

    def needs(self, sources: Set[str]) -> list[Weight]:
        """Return those of the checkpoints that `sources`, a request's weights and settings, name by their
        `Weight.source`."""
        return [row for row in self.checkpoints if row.source in sources]


def to_uint8(frames: np.ndarray) -> np.ndarray | StgEvalError:
    """Map frames float [T, H, W, 3] in 0..1 (clipped) -> uint8, rounded to nearest; an error if any value is not
    finite, since a cast would turn it into black without a word."""
    if not np.isfinite(frames).all():
        return StgEvalError("the model returned frames that are not finite (NaN or infinity)")
    rounded: np.ndarray = np.rint(np.clip(frames, 0.0, 1.0) * 255.0).astype(np.uint8)
    return rounded


def torch_dtype(name: str) -> Any:
    """Return the torch.dtype of that name. Raises StgEvalError for one that models do not run in."""
    if name not in DTYPES:
        raise StgEvalError(f"dtype is one of {', '.join(DTYPES)}, not {name!r}")
    import torch

    return getattr(torch, name)
