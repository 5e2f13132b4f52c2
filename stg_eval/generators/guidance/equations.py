"""The paper's formulas as pure functions of predictions (arXiv 2411.18664).

Every tensor is a batch of predictions, samples along dim 0; they may be epsilon, v or x0 (CFG and STG weights sum to
one, so the formulas hold for each). Names: u unconditional, c conditional. The skip terms of Eq. 13 and 20 are
added by the engine.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cfg(u: Tensor, c: Tensor, scale: float | Tensor) -> Tensor:
    """Classifier-free guidance: u + g (c - u)."""
    return u + scale * (c - u)


def orthogonal(delta_t: Tensor, delta_s: Tensor) -> Tensor:
    """Eq. 21, Algorithm 5: delta_t without its part along delta_s, per sample over all other dims.

    Both [batch, ...] in any float dtype; computed in float64 and returned in delta_t's dtype. Where delta_s is zero,
    delta_t comes back as it is.
    """
    t, s = delta_t.double().flatten(1), delta_s.double().flatten(1)
    norm = (s * s).sum(1, keepdim=True)
    share = (t * s).sum(1, keepdim=True) / torch.where(norm > 0, norm, 1)
    return (t - share * s).reshape(delta_t.shape).to(delta_t.dtype)


def rescale(prediction: Tensor, c: Tensor, amount: float) -> Tensor:
    """Algorithm 4: pull each sample's standard deviation towards that of its conditional prediction.

    prediction, c: [batch, ...]; amount in [0, 1], 0 changes nothing, 1 takes over the deviation. The deviation is per
    sample (the public code takes it over the batch too, which makes a clip depend on its neighbours).
    """
    std = prediction.float().flatten(1).std(1)
    factor = c.float().flatten(1).std(1) / torch.where(std > 0, std, 1)
    factor = amount * torch.where(std > 0, factor, 1) + (1 - amount)
    return (prediction.float() * factor.reshape(-1, *[1] * (prediction.ndim - 1))).to(prediction.dtype)
