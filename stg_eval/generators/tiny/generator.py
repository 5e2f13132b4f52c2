"""Clips of the embedded model: rectified flow by Euler steps, classifier-free guidance, any skip guidance around it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stg_eval.generators.guidance import equations
from stg_eval.generators.guidance.engine import BatchOrder, guided
from stg_eval.generators.guidance.layers import LayerMap
from stg_eval.generators.guidance.views import one_step
from stg_eval.generators.loading import pinned
from stg_eval.generators.model import to_uint8, torch_dtype
from stg_eval.generators.tiny.model import TinyConfig, TinyDiT
from stg_eval.generators.tiny.weights import EMBEDDED
from stg_eval.types import Case, Request, StgEvalError


class TinyGenerator:
    """A loaded model. See `stg_eval.generators.Generator`."""

    def __init__(self, weights: Path | TinyDiT, layer_map: LayerMap, *, device: str, dtype: str) -> None:
        self.layer_map = layer_map
        self.device, self.dtype = torch.device(device), torch_dtype(dtype)
        self.denoiser = self._network(weights) if isinstance(weights, Path) else weights
        self.weaker: tuple[str, Any] = ("", None)

    def _network(self, weights: Path) -> TinyDiT:
        try:
            values = {name: value.float() for name, value in load_file(weights).items()}
            network = TinyDiT(TinyConfig.of(values))
            network.load_state_dict(values)
        except (SafetensorError, KeyError, RuntimeError, OSError) as error:
            raise StgEvalError(f"{weights} does not hold weights of the tiny model: {error}") from error
        return network.eval().to(self.device, self.dtype)

    def _weaker(self, weights: str) -> TinyDiT:
        """Return the network of the checkpoint that AutoGuidance goes away from; the last one is kept."""
        if self.weaker[0] != weights:
            self.weaker = weights, self._network(EMBEDDED.get(weights) or Path(pinned(weights)))
        return self.weaker[1]  # type: ignore[no-any-return]

    @torch.inference_mode()
    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        """Return frames uint8 [8, 16, 16, 3] for each request; see the contract of `Generator`.

        Raises StgEvalError for another size or frame count, and for a case that is not a class of sprites.
        """
        return _frames(self._sample(requests)[0])

    @torch.inference_mode()
    def one_step_views(self, request: Request, step: int) -> dict[str, np.ndarray | StgEvalError]:
        """See `Generator`."""
        views = self._sample([request], step)[1]
        return {name: _frames(latents)[0] for name, latents in views.items()}

    def _sample(self, requests: Sequence[Request], step: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return latents [B, 3, T, H, W], and the one-step predictions at `step` if one is given."""
        from diffusers import FlowMatchEulerDiscreteScheduler

        first, size = requests[0], self.denoiser.config
        if (first.num_frames, first.height, first.width) != (size.num_frames, size.height, size.width):
            raise StgEvalError(
                f"tiny makes clips of {size.num_frames} frames, {size.height} x {size.width} pixels only; "
                f"leave out num_frames={first.num_frames} height={first.height} width={first.width}"
            )
        generators = [torch.Generator().manual_seed(request.noise_seed) for request in requests]
        shape = (3, size.num_frames, size.height, size.width)
        latents = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)
        labels = torch.tensor([self._label(request.case) for request in requests], device=self.device)
        scheduler: Any = FlowMatchEulerDiscreteScheduler()
        guidance = first.guidance
        order: BatchOrder = "c" if guidance.cfg_scale == 1 else "uc"
        with ExitStack() as stack:
            predictions = stack.enter_context(
                guided(
                    self.denoiser,
                    guidance,
                    self.layer_map,
                    batch_order=order,
                    scheduler=scheduler,
                    generators=generators,
                    weaker=[self._weaker(guidance.auto.weights)] if guidance.auto else [],
                )
            )
            views = (
                {}
                if step is None
                else stack.enter_context(one_step(scheduler, predictions, step, first.num_inference_steps))
            )
            scheduler.set_timesteps(sigmas=np.linspace(1, 0, first.num_inference_steps, endpoint=False).tolist())
            for t in scheduler.timesteps:
                velocity = self._velocity(latents, float(t) / 1000, labels, guidance.cfg_scale)
                latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        return latents, views

    def _velocity(self, latents: Tensor, level: float, labels: Tensor, cfg_scale: float) -> Tensor:
        """Return predicted velocity [B, 3, T, H, W] in float32 under classifier-free guidance: u + g (c - u)."""
        if cfg_scale != 1:
            null = torch.full_like(labels, self.denoiser.config.num_classes)
            latents, labels = torch.cat([latents, latents]), torch.cat([null, labels])
        timestep = torch.full((len(latents),), level, device=self.device)
        prediction: Tensor = self.denoiser(latents.to(self.dtype), timestep, labels).float()
        if cfg_scale == 1:
            return prediction
        u, c = prediction.chunk(2)
        return equations.cfg(u, c, cfg_scale)

    def _label(self, case: Case) -> int:
        classes = self.denoiser.config.num_classes
        if case.label is None or not 0 <= case.label < classes:
            raise StgEvalError(
                f"tiny shows sprites only: case {case.id!r} has label {case.label}, give one from 0 to {classes - 1}"
            )
        return case.label


def _frames(latents: Tensor) -> list[np.ndarray | StgEvalError]:
    """Map latents [B, 3, T, H, W] in [-1, 1] -> frames uint8 [T, H, W, 3] of each."""
    return [to_uint8(clip) for clip in ((latents + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()]
