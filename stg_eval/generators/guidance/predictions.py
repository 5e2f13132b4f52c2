"""Prediction methods: other ways than u + g (c - u) to combine what a step predicted. The functions of PREDICTIONS.

Each takes c and u, [batch, ...] in float32, the CFG scale g, a `Step`, and the row's parameters, and returns the guided
prediction in that shape. Norms and products are per sample over all other dims. They act on the denoiser's output as it
is (epsilon, v or velocity), as the public implementations do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stg_eval.errors import StgEvalError
from stg_eval.terms import Moment


@dataclass
class Step:
    """The step at work."""

    moment: Moment
    grid: tuple[int, int, int] | None = None
    """(frames, height, width) of the latents, where predictions are tokens."""
    state: dict[str, Any] = field(default_factory=dict)
    """What a method keeps from one step to the next; emptied at a run's first step."""
    denoiser: nn.Module | None = None
    run: Callable[[bool], Tensor] | None = None
    """The denoiser's prediction as it is now, for the conditional rows (True) or the unconditional ones (False)."""


def apg(c: Tensor, u: Tensor, scale: float, step: Step, *, eta: float, norm: float, momentum: float) -> Tensor:
    """Adaptive Projected Guidance (arXiv 2410.02416): c + (g - 1) (d_orthogonal + eta d_parallel) to c.

    d is c - u, to which the last step's is added `momentum` times (negative: reversed), shortened to the length `norm`
    where it is longer (0: never).
    """
    d = c - u
    if momentum:
        step.state["d"] = d = d + momentum * step.state.get("d", torch.zeros_like(d))
    if norm:
        d = d * torch.clamp(norm / _norm(d), max=1)
    parallel = _dot(d, c) / _dot(c, c) * c
    return c + (scale - 1) * (d - parallel + eta * parallel)


def cfg_zero_star(c: Tensor, u: Tensor, scale: float, step: Step, *, steps: float) -> Tensor:
    """CFG-Zero* (arXiv 2503.18886): u is scaled to be nearest to c, and the first `steps` steps predict zero."""
    if step.moment.step < steps:
        return torch.zeros_like(c)
    u = _dot(c, u) / (_dot(u, u) + 1e-8) * u
    return u + scale * (c - u)


def tcfg(c: Tensor, u: Tensor, scale: float, step: Step) -> Tensor:
    """Tangential damping (arXiv 2503.18137): of u only the part along the first singular vector of (c, u) is kept.

    That vector is a c + b u, with (a, b) the first eigenvector of their 2 x 2 Gram matrix.
    """
    pair = c.double(), u.double()
    gram = torch.stack([torch.stack([_dot(x, y).flatten() for y in pair], -1) for x in pair], -2)
    a, b = torch.linalg.eigh(gram)[1][:, :, -1].reshape(-1, 2, *[1] * (c.ndim - 1)).unbind(1)
    v = a * pair[0] + b * pair[1]
    u = (_dot(pair[1], v) / _dot(v, v) * v).to(c.dtype)
    return u + scale * (c - u)


def fdg(c: Tensor, u: Tensor, scale: float, step: Step, *, low: float) -> Tensor:
    """Frequency-decoupled guidance (arXiv 2506.19713) with two levels: the CFG scale for high spatial frequencies,
    `low` for low ones, which are what a Laplacian pyramid's blurred halving and doubling leaves of each frame."""
    d = c - u
    smooth = _low_pass(d, step.grid)
    return u + scale * (d - smooth) + low * smooth


def magnitude_aware(c: Tensor, u: Tensor, scale: float, step: Step, *, alpha: float) -> Tensor:
    """Magnitude-aware guidance (MAMBO-G, arXiv 2508.03442): g - 1 falls by exp(-alpha |c - u| / |u|)."""
    d = c - u
    return u + (1 + (scale - 1) * torch.exp(-alpha * _norm(d) / _norm(u))) * d


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Return [batch, 1, ...]: the inner product of each sample."""
    return (x * y).flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))


def _norm(x: Tensor) -> Tensor:
    return _dot(x, x).sqrt()


def _low_pass(x: Tensor, grid: tuple[int, int, int] | None) -> Tensor:
    """Return the coarse level of a Laplacian pyramid at full size, of every frame: blur by (1 4 6 4 1) / 16 both ways,
    halve and double by bilinear interpolation, blur again; edges are mirrored."""
    if x.ndim == 3:  # tokens [batch, frames * height * width, channels]
        if grid is None:
            raise StgEvalError("fdg needs the token grid, which this model's layer map does not tell")
        return _low_pass(x.transpose(1, 2).unflatten(2, grid), None).flatten(2).transpose(1, 2)
    planes = x.reshape(-1, 1, *x.shape[-2:])
    height, width = planes.shape[-2:]
    small = _resized(_blurred(planes), max(1, height // 2), max(1, width // 2))
    return _blurred(_resized(small, height, width)).reshape(x.shape)


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def _blurred(x: Tensor) -> Tensor:
    weights = torch.tensor([1, 4, 6, 4, 1], dtype=x.dtype, device=x.device) / 16
    mode = "reflect" if min(x.shape[-2:]) > 2 else "replicate"
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode=mode), torch.outer(weights, weights)[None, None])
