"""Generators: requests in, frames out. One file or folder a model; each is named in MODELS.

A model is described by a light `ModelCard` (no torch), which plans read, and loaded only when clips are made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, Protocol

import numpy as np

from stg_eval.types import Guidance, JSONValue, Request, StgEvalError

MODELS: dict[str, str] = {
    "tiny": "stg_eval.generators.tiny.card",
    "svd": "stg_eval.generators.svd",
    "mochi": "stg_eval.generators.mochi",
    "opensora": "stg_eval.generators.opensora.card",
    "ltx": "stg_eval.generators.ltx",
    "cogvideox": "stg_eval.generators.cogvideox",
    "wan": "stg_eval.generators.wan",
}
"""Name -> module that defines CARD (a ModelCard) and load(); importing it must not import torch."""

DTYPES = ("float32", "bfloat16", "float16")


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
    encoding: str
    batch_size: int
    presets: Mapping[str, Preset]
    """"none", "cfg" and "stg" at least; `--guidance stg` means presets["stg"]."""
    settings: Mapping[str, JSONValue] = field(default_factory=dict)
    """Model-specific settings with their defaults; `--set name=value` changes one."""
    tflops_per_pass: float = 0.0
    """One conditional forward pass of the denoiser at the default size, in TFLOP."""
    first_layer: int = 0
    """Number of the first layer in the model's published numbering (SVD counts from 1)."""
    num_layers: int = 0
    licence: str = ""


class Generator(Protocol):
    """A loaded model."""

    def generate(self, requests: Sequence[Request]) -> Sequence[np.ndarray | StgEvalError]:
        """Frames for each request, in order: uint8 [num_frames, height, width, 3], RGB, as `to_uint8` makes them; an
        error in the place of a clip that is not finite.

        All requests of one call share guidance, size, num_frames, num_inference_steps and settings. Each draws its
        noise from a generator of its own, seeded with `request.noise_seed`, so a clip does not depend on its batch.
        """
        ...


def to_uint8(frames: np.ndarray) -> np.ndarray | StgEvalError:
    """Frames float [T, H, W, 3] in 0..1 (clipped) -> uint8, rounded to nearest; an error if any value is not finite,
    since a cast would turn it into black without a word."""
    if not np.isfinite(frames).all():
        return StgEvalError("the model returned frames that are not finite (NaN or infinity)")
    rounded: np.ndarray = np.rint(np.clip(frames, 0.0, 1.0) * 255.0).astype(np.uint8)
    return rounded


def torch_dtype(name: str) -> Any:
    """The torch.dtype of that name. Raises StgEvalError for one that models do not run in."""
    if name not in DTYPES:
        raise StgEvalError(f"dtype is one of {', '.join(DTYPES)}, not {name!r}")
    import torch

    return getattr(torch, name)


def card(name: str) -> ModelCard:
    """The card of a registered model. Raises StgEvalError with the nearest name for an unknown one."""
    return _module(name).CARD  # type: ignore[no-any-return]


def cost(name: str, guidance: Guidance) -> float:
    """Passes of the denoiser a step, counted in full conditional passes: 1 without guidance, 2 with CFG, and for each
    weak pass the share of the network behind the skipped layer (the prefix is shared)."""
    return float(_module(name).cost(guidance))


def check(request: Request) -> None:
    """Refuse, before anything is loaded, what the model could not make: a size, a frame count or rate, a CFG scale.

    Raises StgEvalError. Its module calls it `check`, or has it in its FAMILY of diffusers pipelines.
    """
    module = _module(request.model)
    refuse = getattr(getattr(module, "FAMILY", module), "check", None)
    if refuse:
        refuse(request)


def smoke_settings(name: str) -> dict[str, JSONValue]:
    """Settings (`weights`, height, ...) that make a model small, quick and random, for trying a whole run on any
    machine. Empty for a model that has none. Its module calls them SMOKE."""
    return dict(getattr(_module(name), "SMOKE", {}))


def load(name: str, *, device: str, dtype: str, weights: str, settings: Mapping[str, JSONValue]) -> Generator:
    """Load a model's weights. `weights` is the card's checkpoint, another hub id, or a local folder.

    Raises StgEvalError that says what to do when a checkpoint is missing, gated or of the wrong kind.
    """
    return _module(name).load(device=device, dtype=dtype, weights=weights, settings=settings)  # type: ignore[no-any-return]


def _module(name: str) -> Any:
    if name not in MODELS:
        near = get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise StgEvalError(f"unknown model {name!r}{hint} (known: {', '.join(MODELS)})")
    return importlib.import_module(MODELS[name])
