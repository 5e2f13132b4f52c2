"""Small random pipelines of the real classes, one of each a session, and one way to run all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stg_eval.generators.guidance import LayerMap, guided, maps
from stg_eval.generators.random_weights import random_pipeline
from stg_eval.types import Guidance

NOISE = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Model:
    """A pipeline, how it is called, and which of its inputs hold one row a sample."""

    kind: str
    layer_map: LayerMap
    call: dict[str, Any]
    scale: str
    rows: tuple[str | int, ...]
    denoiser: str = "transformer"
    batch_order: Any = "uc"
    steps: int = 2


MODELS = {
    "svd": Model(
        "StableVideoDiffusionPipeline",
        maps.SVD,
        {"image": [Image.fromarray(NOISE)], "height": 128, "width": 128, "num_frames": 3},
        "max_guidance_scale",
        (0, "encoder_hidden_states", "added_time_ids"),
        "unet",
        steps=3,  # with fewer, the last step starts from latents so large that float32 resolves 6e-5 of them
    ),
    "mochi": Model(
        "MochiPipeline",
        maps.MOCHI,
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 13},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    ),
    "ltx": Model(
        "LTXPipeline",
        maps.LTX,
        {"prompt": ["a red ball"], "height": 64, "width": 96, "num_frames": 9},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    ),
    "cogvideox": Model(
        "CogVideoXPipeline",
        maps.COGVIDEOX,
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep"),
    ),
    "wan": Model(
        "WanPipeline",
        maps.WAN,
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        (),
        batch_order="c,u",
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bit-equality needs one order of summation, and these networks are too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def _pipeline(name: str) -> Any:
    pipeline = random_pipeline(MODELS[name].kind, "random-weights(seed=0)")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@dataclass
class Trajectory:
    """What the scheduler was given at every step, and the latents it ended with."""

    outputs: list[torch.Tensor]
    latents: torch.Tensor

    def distance(self, other: Trajectory) -> float:
        """Largest difference of the first step's prediction and of the last latents, relative to the largest value.

        The first step has equal inputs; those between carry rounding that random networks amplify and later steps damp.
        """
        assert len(self.outputs) == len(other.outputs)
        pairs = [(self.outputs[0], other.outputs[0]), (self.latents, other.latents)]
        return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs)

    def equals(self, other: Trajectory) -> bool:
        return torch.equal(self.latents, other.latents)


@dataclass(frozen=True)
class Bench:
    """A model to try things on."""

    model: Model
    pipeline: Any

    @property
    def denoiser(self) -> torch.nn.Module:
        return getattr(self.pipeline, self.model.denoiser)  # type: ignore[no-any-return]

    def trajectory(
        self,
        cfg_scale: float,
        *,
        batch: int = 1,
        steps: int | None = None,
        replace: Callable[..., Any] = lambda output: output,
    ) -> Trajectory:
        """One plain run of the pipeline, whatever is patched around it; `replace` sees every output first."""
        many = {k: v * batch if isinstance(v, list) else v for k, v in self.model.call.items()}
        outputs: list[torch.Tensor] = []
        with _watched(self.pipeline.scheduler, replace, outputs):
            result = self.pipeline(
                **many,
                **{self.model.scale: cfg_scale},
                num_inference_steps=steps or self.model.steps,
                output_type="latent",
                generator=[torch.Generator().manual_seed(i) for i in range(batch)],
            )
        return Trajectory(outputs, result.frames)

    def guided(self, text: str, *, batch: int = 1, steps: int | None = None, **options: Any) -> Trajectory:
        """A run under the engine, with the signature's CFG scale."""
        guidance = Guidance.parse(text)
        order = self.model.batch_order if guidance.cfg_scale > 1 else "c"
        with guided(
            self.denoiser,
            guidance,
            self.model.layer_map,
            batch_order=order,
            scheduler=self.pipeline.scheduler,
            generators=[torch.Generator().manual_seed(100 + i) for i in range(batch)],
            **options,
        ):
            return self.trajectory(guidance.cfg_scale, batch=batch, steps=steps)


@contextmanager
def _watched(scheduler: Any, replace: Callable[..., Any], outputs: list[torch.Tensor]) -> Iterator[None]:
    before, step = scheduler.__dict__.get("step"), scheduler.step

    @functools.wraps(step)
    def watching(model_output: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        outputs.append(replace(model_output))
        return step(outputs[-1], *args, **kwargs)

    scheduler.step = watching
    try:
        yield
    finally:
        del scheduler.step
        if before is not None:
            scheduler.step = before


@pytest.fixture
def bench() -> Callable[[str], Bench]:
    """`bench("svd")`: a small random pipeline of that model."""
    return lambda name: Bench(MODELS[name], _pipeline(name))
