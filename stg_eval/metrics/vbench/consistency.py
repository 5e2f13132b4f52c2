"""How much frames resemble each other in a network's features: cosines to the frame before and to a fixed one.

Source: vbench 0.1.5, vbench/subject_consistency.py and vbench/background_consistency.py. The official total weighs
clips by their number of frames; here each clip has one score, and clips of one length give the same mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class Similarities:
    """Cosines of a clip's frames, as its chunks pass.

    Args:
        anchor: Features [1, D] that all frames are compared with; None: those of the first frame.
    """

    def __init__(self, anchor: Tensor | None = None) -> None:
        self._anchor = None if anchor is None else F.normalize(anchor, dim=-1)
        self._previous: Tensor | None = None
        self._own = anchor is None
        self._to_previous: list[Tensor] = []
        self._to_anchor: list[Tensor] = []

    def update(self, features: Tensor) -> None:
        """Return features [n, D] of the next frames, of any length."""
        features = F.normalize(features, dim=-1)
        before = features[:-1] if self._previous is None else torch.cat([self._previous, features[:-1]])
        self._to_previous.append(
            F.cosine_similarity(before, features[-len(before) :]) if len(before) else features[:0, 0]
        )
        if self._anchor is None:
            self._anchor = features[:1]
        self._to_anchor.append(F.cosine_similarity(self._anchor, features))
        self._previous = features[-1:]

    def to_previous(self) -> Tensor:
        """Return Cosine of each frame but the first to the one before, at least 0, float64 on the CPU."""
        return torch.cat(self._to_previous).double().cpu().clamp(min=0)

    def to_anchor(self) -> Tensor:
        """Return Cosine of each frame to the anchor, at least 0; without the first frame where that is the anchor."""
        return torch.cat(self._to_anchor).double().cpu().clamp(min=0)[int(self._own) :]


def consistency(similarities: Similarities) -> float:
    """Return mean of the cosines to the previous and to the first frame, over all frames but the first; nan for one
    frame."""
    return (similarities.to_previous() + similarities.to_anchor()).div(2).mean().item()
