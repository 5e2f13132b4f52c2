"""The metrics as torchmetrics.Metric, for anyone's own evaluation or training loop, on one process or many::

    distance = FrechetVideoDistance(fvd.load("cuda").extractor, num_clips=2048)
    for real, generated in loader:
        distance.update(real, real=True)
        distance.update(generated, real=False)
    distance.compute()

Clips are uint8 [N, T, H, W, 3], RGB. Networks and statistics are those of `stg-eval score`, so are the scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from stg_eval.metrics import ClipScorer, Extractor
from stg_eval.metrics.fvd import frechet_distance
from stg_eval.metrics.inception_score import Protocol, score_logits
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError

Clips = Tensor | np.ndarray | Sequence[np.ndarray]
"""Clips uint8 [N, T, H, W, 3], or N clips uint8 [T, H, W, 3] of any sizes."""


class FrechetVideoDistance(Metric):
    """FVD of generated clips from real ones; see `stg_eval.metrics.fvd.frechet_distance`.

    Features stay in memory, so that distributed processes gather them and all compute the one distance.

    Args:
        extractor: Any `stg_eval.metrics.Extractor`; clips hold the frames that it looks at.
        ddof: Covariances are divided by n - ddof.
        num_clips: How many clips each set must have; compute() refuses any other count, because FVD depends on it.
            None: any count from `min_clips` up.
        min_clips: The fewest clips of a set.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    real_features: list[Tensor]
    features: list[Tensor]

    def __init__(
        self, extractor: Extractor, *, ddof: int = 0, num_clips: int | None = None, min_clips: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extractor, self.ddof = extractor, ddof
        self.num_clips, self.min_clips = num_clips, min_clips
        self.add_state("real_features", default=[], dist_reduce_fx="cat")
        self.add_state("features", default=[], dist_reduce_fx="cat")

    def update(self, frames: Clips, real: bool) -> None:
        """Add clips to the real or to the generated set."""
        features = torch.from_numpy(self.extractor.extract(_arrays(frames))).to(self.device)
        (self.real_features if real else self.features).append(features)

    def compute(self) -> Tensor:
        """Return the distance of all clips so far, a float64 scalar."""
        real, generated = _rows(self.real_features), _rows(self.features)
        for title, rows in (("real", real), ("generated", generated)):
            if self.num_clips is not None and len(rows) != self.num_clips:
                raise StgEvalError(f"FVD was asked for over {self.num_clips} clips and has {len(rows)} {title} ones")
            if len(rows) < self.min_clips:
                raise StgEvalError(f"FVD needs at least {self.min_clips} {title} clips and has {len(rows)}")
        return torch.tensor(frechet_distance(generated, real, ddof=self.ddof), dtype=torch.float64)


class VideoInceptionScore(Metric):
    """Inception Score of generated clips; see `stg_eval.metrics.inception_score`.

    Args:
        extractor: Returns logits, as `stg_eval.metrics.c3d` does.
        protocol: One of `stg_eval.metrics.inception_score.PROTOCOLS`, or your own.
        num_clips: How many clips the set must have; compute() refuses any other count. None: any count.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    logits: list[Tensor]

    def __init__(
        self, extractor: Extractor, protocol: Protocol, *, num_clips: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extractor, self.protocol, self.num_clips = extractor, protocol, num_clips
        self.add_state("logits", default=[], dist_reduce_fx="cat")

    def update(self, frames: Clips) -> None:
        """Add clips."""
        self.logits.append(torch.from_numpy(self.extractor.extract(_arrays(frames))).to(self.device))

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return mean and spread over the protocol's splits of all clips so far, float64 scalars."""
        logits = _rows(self.logits)
        if len(logits) == 0 or (self.num_clips is not None and len(logits) != self.num_clips):
            raise StgEvalError(
                f"Inception Score was asked for over {self.num_clips or 'some'} clips and has {len(logits)}"
            )
        score = score_logits(logits, self.protocol)
        return torch.tensor(score.mean, dtype=torch.float64), torch.tensor(score.spread, dtype=torch.float64)


class MeanClipScore(Metric):
    """Mean over clips of any clip metric, such as ``MeanClipScore(registry.card("motion_smoothness").load("cuda"))``.

    Args:
        scorer: Any `stg_eval.metrics.ClipScorer`.
    """

    is_differentiable = False
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, scorer: ClipScorer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scorer = scorer
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, frames: Clips, cases: Sequence[Case] | None = None, fps: float = 8.0) -> None:
        """Add clips, with their prompts or labels where the metric looks at them. Raises StgEvalError for a nan."""
        for i, clip in enumerate(_arrays(frames)):
            info = VideoInfo(Path(), len(clip), clip.shape[1], clip.shape[2], fps, "")
            self.scorer.begin(info, cases[i] if cases else None)
            self.scorer.update(clip)
            value = self.scorer.end()
            if value != value:
                raise StgEvalError(f"{self.scorer.signature} is not defined for a clip of {list(clip.shape)}")
            self.total += value
            self.count += 1

    def compute(self) -> Tensor:
        """Return the mean of all clips so far, a float64 scalar."""
        return self.total / self.count


def _arrays(frames: Clips) -> list[np.ndarray]:
    clips = list(frames.cpu().numpy() if isinstance(frames, Tensor) else frames)
    for clip in clips:
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
            raise StgEvalError(f"clips are uint8 [T, H, W, 3], RGB; this one is {clip.dtype} {list(clip.shape)}")
    return clips


def _rows(state: list[Tensor] | Tensor) -> np.ndarray:
    """Map a list of feature batches, or their concatenation after a gather -> [N, D]; empty where nothing was added."""
    return np.empty((0, 0), np.float32) if len(state) == 0 else dim_zero_cat(state).cpu().numpy()
