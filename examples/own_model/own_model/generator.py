"""Pebble's network and sampling loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval import Request, StgEvalError
from stg_eval.generators import to_uint8, torch_dtype
from stg_eval.generators.guidance import LayerMap, guided
from stg_eval.generators.guidance.views import one_step

PATCH, WIDTH = 8, 32


class Attention(nn.Module):
    """Self-attention with `qkv` and `proj`, which stg-eval knows how to skip."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(F.scaled_dot_product_attention(q, k, v))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(), nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = x + self.attn(F.layer_norm(x + condition, x.shape[-1:]))
        return x + self.mlp(F.layer_norm(x, x.shape[-1:]))


class Denoiser(nn.Module):
    """Latents [B, 3, T, H, W], noise level [B] and text [B, 256] (counts of bytes) -> velocity as the latents."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.text, self.time = (nn.Linear(n, WIDTH) for n in (3 * PATCH**2, 256, 1))
        self.blocks = nn.ModuleList(Block() for _ in range(4))
        self.write = nn.Linear(WIDTH, 3 * PATCH**2)

    def forward(self, latents: Tensor, level: Tensor, text: Tensor) -> Tensor:
        x = latents.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH))  # B, 3, T, H/p, p, W/p, p
        grid = x.permute(0, 2, 3, 5, 1, 4, 6)
        tokens, condition = self.read(grid.flatten(4).flatten(1, 3)), self.text(text) + self.time(level[:, None])
        for block in self.blocks:
            tokens = block(tokens, condition[:, None])
        return self.write(tokens).view(grid.shape).permute(0, 4, 1, 2, 5, 3, 6).reshape(latents.shape)


class PebbleGenerator:
    """See `stg_eval.generators.Generator`."""

    def __init__(self, layer_map: LayerMap, *, device: str, dtype: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.denoiser = Denoiser().eval().to(device, torch_dtype(dtype))
        self.layer_map, self.device, self.dtype = layer_map, device, torch_dtype(dtype)

    def generate(self, requests: Sequence[Request]) -> list[np.ndarray | StgEvalError]:
        return _frames(self._sample(requests)[0])

    def one_step_views(self, request: Request, step: int) -> Mapping[str, np.ndarray | StgEvalError]:
        return {name: _frames(latents)[0] for name, latents in self._sample([request], step)[1].items()}

    @torch.inference_mode()
    def _sample(self, requests: Sequence[Request], step: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        first, guidance = requests[0], requests[0].guidance
        generators = [
            torch.Generator().manual_seed(r.noise_seed) for r in requests
        ]  # so clips do not depend on batches
        shape = (3, first.num_frames, first.height, first.width)
        latents = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(self.device)
        text = torch.stack([_bytes(r.case.prompt) for r in requests]).to(latents)
        scheduler, views = FlowMatchEulerDiscreteScheduler(), {}
        order = "uc" if guidance.cfg_scale != 1 else "c"
        with ExitStack() as stack:
            predictions = stack.enter_context(
                guided(
                    self.denoiser,
                    guidance,
                    self.layer_map,
                    batch_order=order,
                    scheduler=scheduler,
                    generators=generators,
                )
            )
            if step is not None:
                views = stack.enter_context(one_step(scheduler, predictions, step, first.num_inference_steps))
            scheduler.set_timesteps(first.num_inference_steps)
            for t in scheduler.timesteps:
                x, condition = latents, text
                if order == "uc":
                    x, condition = torch.cat([x, x]), torch.cat([torch.zeros_like(text), text])
                level = torch.full((len(x),), float(t) / 1000).to(x)
                velocity = self.denoiser(*(a.to(self.dtype) for a in (x, level, condition))).float()
                if order == "uc":
                    u, c = velocity.chunk(2)
                    velocity = u + guidance.cfg_scale * (c - u)
                latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        return latents, views


def _bytes(prompt: str) -> Tensor:
    return torch.bincount(torch.tensor(list(prompt.encode()), dtype=torch.long), minlength=256).float()


def _frames(latents: Tensor) -> list[np.ndarray | StgEvalError]:
    return [to_uint8(clip) for clip in ((latents + 1) / 2).permute(0, 2, 3, 4, 1).cpu().numpy()]
