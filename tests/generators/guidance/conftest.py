"""Small random pipelines of the real classes, one of each a session, and one way to run all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from stg_eval import generators
from stg_eval.generators.diffusers_video import DiffusersModel
from stg_eval.generators.guidance import LayerMap, guided
from stg_eval.generators.guidance.schedulers import replaced_methods
from stg_eval.types import Guidance

NOISE = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)

PLAIN: dict[str, Any] = {"stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0} | dict.fromkeys(
    ("audio_guidance_scale", "audio_stg_scale", "audio_modality_scale", "audio_guidance_rescale")
)
"""LTX-2's pipeline with nothing but CFG, of one scale for video and audio."""


@dataclass(frozen=True)
class Model:
    """A model, how its pipeline is called, and which of its denoiser's inputs hold one row a sample."""

    model: DiffusersModel
    call: dict[str, Any]
    scale: str
    rows: tuple[str | int, ...]

    @property
    def layer_map(self) -> LayerMap:
        return self.model.layer_map


MODELS = {
    "svd": Model(
        generators.get("svd"),  # type: ignore[arg-type]
        {"image": [Image.fromarray(NOISE)], "height": 128, "width": 128, "num_frames": 3},
        "max_guidance_scale",
        (0, "encoder_hidden_states", "added_time_ids"),
    ),
    "mochi": Model(
        generators.get("mochi"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 13},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    ),
    "ltx": Model(
        generators.get("ltx"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 64, "width": 96, "num_frames": 9},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep", "encoder_attention_mask"),
    ),
    "cogvideox": Model(
        generators.get("cogvideox"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep"),
    ),
    "hunyuan": Model(
        generators.get("hunyuan"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "negative_prompt": ["blurred"], "height": 32, "width": 48, "num_frames": 5},
        "true_cfg_scale",
        (),
    ),
    "hunyuan15": Model(
        generators.get("hunyuan15"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "negative_prompt": ["blurred"], "height": 32, "width": 48, "num_frames": 5},
        "",
        (),
    ),
    "cogvideox-i2v": Model(
        generators.get("cogvideox-i2v"),  # type: ignore[arg-type]
        {"image": [Image.fromarray(NOISE)], "prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        ("hidden_states", "encoder_hidden_states", "timestep"),
    ),
    "ltx2": Model(
        generators.get("ltx2"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 64, "width": 64, "num_frames": 9, **PLAIN},
        "guidance_scale",
        (),
    ),
    "ltx23": Model(
        generators.get("ltx23"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 64, "width": 64, "num_frames": 9, **PLAIN},
        "guidance_scale",
        (),
    ),
    "wan22": Model(
        generators.get("wan22"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        (),
    ),
    "wan22-i2v": Model(
        generators.get("wan22-i2v"),  # type: ignore[arg-type]
        {"image": Image.fromarray(NOISE), "prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        (),
    ),
    "wan": Model(
        generators.get("wan"),  # type: ignore[arg-type]
        {"prompt": ["a red ball"], "height": 32, "width": 48, "num_frames": 9},
        "guidance_scale",
        (),
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bit-equality needs one order of summation, and these networks are too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Widened(TorchFunctionMode):
    """Whatever is cast to float32, or made as float32, is float64 instead.

    Pipelines, schedulers and denoisers of diffusers cast predictions, latents, norms and timesteps to float32 whatever
    their weights are, and so does the engine. Within this no such cast rounds, on either side of a comparison.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        def wide(x: Any) -> Any:
            return torch.float64 if x is torch.float32 else x

        if function is torch.Tensor.float:
            function = torch.Tensor.double
        out = function(*map(wide, args), **{k: wide(v) for k, v in (kwargs or {}).items()})
        return out.double() if isinstance(out, torch.Tensor) and out.dtype is torch.float32 else out


@functools.cache
def _pipeline(name: str, dtype: torch.dtype) -> Any:
    pipeline = MODELS[name].model.open(dtype="float32", weights="random-weights(seed=0)", settings={})
    if name == "svd":  # encoding the image would take as long as a step, and no guidance reaches it
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline.vae.encoder = torch.nn.Conv2d(3, 8, kernel_size=8, stride=8)
    pipeline.to(dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@dataclass
class Trajectory:
    """Every step's combined prediction, as the scheduler got it; the first latents and those after every step."""

    outputs: list[torch.Tensor] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)

    @property
    def latents(self) -> torch.Tensor:
        """The last ones."""
        return self.states[-1]

    def pairs(self, other: Trajectory) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """All tensors beside their counterparts, predictions first."""
        return list(zip([*self.outputs, *self.states], [*other.outputs, *other.states], strict=True))

    def distance(self, other: Trajectory) -> float:
        """Largest absolute difference of any value at any step."""
        return max(_largest(a - b) for a, b in self.pairs(other))

    def relative_distance(self, other: Trajectory) -> float:
        """The same, each tensor's difference over its own largest value."""
        return max(_largest(a - b) / _largest(b) for a, b in self.pairs(other))

    def equals(self, other: Trajectory) -> bool:
        """Every step bit for bit."""
        return len(self.states) == len(other.states) and all(torch.equal(a, b) for a, b in self.pairs(other))


def _largest(x: torch.Tensor) -> float:
    return float(x.abs().max())


@dataclass(frozen=True)
class Bench:
    """A model to try things on, in float32 as users run it, or in float64 throughout."""

    model: Model
    pipeline: Any
    dtype: torch.dtype

    @property
    def denoiser(self) -> torch.nn.Module:
        return getattr(self.pipeline, self.model.model.denoisers[0])  # type: ignore[no-any-return]

    def trajectory(
        self,
        cfg_scale: float,
        *,
        batch: int = 1,
        steps: int = 2,
        replace: Callable[..., Any] = lambda output: output,
    ) -> Trajectory:
        """One plain run of the pipeline, whatever is patched around it; `replace` sees every output first."""
        many = {k: v * batch if isinstance(v, list) else v for k, v in self.model.call.items()}
        seen = Trajectory()
        self.model.model.prepare(self.pipeline, cfg_scale)
        told = {self.model.scale: cfg_scale} if self.model.scale else {}
        with _watched(self.pipeline.scheduler, replace, seen), Widened() if self.dtype.itemsize > 4 else nullcontext():
            latents = self.pipeline(
                **many,
                **told,
                num_inference_steps=steps,
                output_type="latent",
                generator=[torch.Generator().manual_seed(i) for i in range(batch)],
            ).frames
        if self.model.layer_map.outputs == 1:  # LTX-2 gives them in another form
            assert torch.equal(latents, seen.latents)
        assert all(x.dtype is self.dtype and x.isfinite().all() for x in (*seen.outputs, *seen.states))
        return seen

    def guided(self, text: str, *, batch: int = 1, steps: int = 2, **options: Any) -> Trajectory:
        """A run under the engine, with the signature's CFG scale."""
        guidance = Guidance.parse(text)
        order = self.model.model.batch_order if guidance.cfg_scale > 1 else "c"
        with guided(
            [getattr(self.pipeline, name) for name in self.model.model.denoisers],
            guidance,
            self.model.layer_map,
            batch_order=order,
            scheduler=self.pipeline.scheduler,
            generators=[torch.Generator().manual_seed(100 + i) for i in range(batch)],
            **options,
        ):
            return self.trajectory(guidance.cfg_scale, batch=batch, steps=steps)


@contextmanager
def _watched(scheduler: Any, replace: Callable[..., Any], seen: Trajectory) -> Iterator[None]:
    step = scheduler.step

    @functools.wraps(step)
    def watching(model_output: torch.Tensor, timestep: Any, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.outputs.append(replace(model_output))
        if not seen.states:
            seen.states.append(sample)
        result = step(seen.outputs[-1], timestep, sample, *args, **kwargs)
        seen.states.append(result[0])
        return result

    with replaced_methods(scheduler, step=watching):
        yield


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """`bench("svd")`: a small random pipeline of that model."""
    return lambda name, dtype=torch.float32: Bench(MODELS[name], _pipeline(name, dtype), dtype)
