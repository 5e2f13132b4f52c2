"""Fréchet Video Distance: how far two sets of feature vectors lie apart, each seen as one Gaussian.

The statistic is pure and takes any features; `FrechetVideoDistance` is for anyone's own loop, `load` for ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from stg_eval.metrics import Extractor
from stg_eval.types import StgEvalError

VERSION = "v1"


def frechet_distance(features: ArrayLike, reference: ArrayLike, *, ddof: int = 0) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Eq. 6 of Heusel et al. 2017, in float64.

    With S = R'R / (n - ddof) from a QR decomposition of the centred features, (S1 S2)^(1/2) and (M M')^(1/2), where
    M = R1 R2', have the same trace: the roots of the eigenvalues of a symmetric matrix. That needs neither a
    covariance, which squares the condition number, nor a matrix square root, which is slower and fails on singular S.

    Args:
        features: [N, D], any real dtype, finite.
        reference: [M, D], the real set. The distance is symmetric.
        ddof: Covariances are divided by n - ddof: 0 as content-debiased FVD does, 1 as DIGAN's script.

    Returns:
        The distance, >= 0 up to rounding. It grows as N or M gets smaller: compare equal counts only.

    Raises:
        StgEvalError: different D, fewer than two clips, or features that are not finite.
    """
    if ddof not in (0, 1):
        raise StgEvalError(f"ddof is 0 (covariance over n) or 1 (over n - 1), not {ddof}")
    mean, root = _gaussian(features, ddof)
    reference_mean, reference_root = _gaussian(reference, ddof)
    if mean.shape != reference_mean.shape:
        raise StgEvalError(f"the two sets have features of {mean.size} and {reference_mean.size} dimensions")
    small, large = sorted((root, reference_root), key=len)
    product = small @ large.T
    eigenvalues = np.linalg.eigvalsh(product @ product.T)
    trace = np.sqrt(np.maximum(eigenvalues, 0)).sum()
    difference = mean - reference_mean
    return float(difference @ difference + np.square(root).sum() + np.square(reference_root).sum() - 2 * trace)


def _gaussian(features: ArrayLike, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and R [min(N, D), D], the triangular root of the covariance."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise StgEvalError(f"a Fréchet distance needs features [N, D] of at least two clips, not {x.shape}")
    if not np.isfinite(x).all():
        raise StgEvalError(f"the features of {int((~np.isfinite(x).all(axis=1)).sum())} clips are not finite")
    mean = x.mean(axis=0)
    return mean, np.linalg.qr(x - mean, mode="r") / np.sqrt(len(x) - ddof)


@dataclass
class FVD:
    """A set metric: an extractor and the Fréchet distance of its features."""

    extractor: Extractor
    ddof: int = 0
    """See `frechet_distance`."""
    signature: str = field(init=False)
    """``FVD|<extractor>|n*|cov-n|v1``; `registry.counted` fills in the number of clips."""

    def __post_init__(self) -> None:
        self.signature = f"FVD|{self.extractor.signature}|n*|{'cov-n-1' if self.ddof else 'cov-n'}|{VERSION}"

    def statistic(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Features [N, D] and the reference's [M, D] -> the distance. See `frechet_distance`."""
        if reference is None:
            raise StgEvalError("FVD compares with real clips and got none")
        return frechet_distance(features, reference, ddof=self.ddof)


def load(name: str, device: str) -> FVD:
    """Content-debiased FVD (Ge et al., CVPR 2024): VideoMAE-v2 features, covariance over n."""
    from stg_eval.metrics import videomae

    return FVD(videomae.load(device))


class FrechetVideoDistance(Metric):
    """FVD in any evaluation loop::

        fvd = FrechetVideoDistance(videomae.load("cuda"), num_clips=2048)
        fvd.update(real_frames, real=True)
        fvd.update(frames, real=False)
        fvd.compute()

    Features stay in memory, so distributed processes gather them and all compute the same distance.

    Args:
        extractor: Any `stg_eval.metrics.Extractor`.
        ddof: See `frechet_distance`.
        num_clips: How many clips each set must have; compute() refuses any other count, because FVD depends on it.
            None: any count from `min_clips` up.
        min_clips: The fewest clips of a set, where `num_clips` is None.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    real_features: list[Tensor]
    fake_features: list[Tensor]

    def __init__(
        self, extractor: Extractor, *, ddof: int = 0, num_clips: int | None = None, min_clips: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.extractor, self.ddof = extractor, ddof
        self.num_clips, self.min_clips = num_clips, min_clips
        self.add_state("real_features", default=[], dist_reduce_fx="cat")
        self.add_state("fake_features", default=[], dist_reduce_fx="cat")

    def update(self, frames: Tensor | np.ndarray | Sequence[np.ndarray], real: bool) -> None:
        """Add clips: uint8 [N, T, H, W, 3], RGB, 0 to 255, with the T frames that the extractor looks at."""
        features = torch.from_numpy(extract(self.extractor, frames)).to(self.device)
        (self.real_features if real else self.fake_features).append(features)

    def compute(self) -> Tensor:
        """The distance of all clips so far, a float64 scalar."""
        real, fake = (dim_zero_cat(f) if len(f) else None for f in (self.real_features, self.fake_features))
        for title, features in (("real", real), ("generated", fake)):
            n = 0 if features is None else len(features)
            if self.num_clips is not None and n != self.num_clips:
                raise StgEvalError(f"FVD was asked for over {self.num_clips} clips and has {n} {title} ones")
            if n < self.min_clips:
                raise StgEvalError(f"FVD needs at least {self.min_clips} {title} clips and has {n}")
        assert real is not None
        assert fake is not None
        return torch.tensor(frechet_distance(fake.cpu().numpy(), real.cpu().numpy(), ddof=self.ddof)).double()


def extract(extractor: Extractor, frames: Tensor | np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Features float32 [N, D] of clips uint8 [N, T, H, W, 3], tensor or array."""
    clips = frames.cpu().numpy() if isinstance(frames, Tensor) else frames
    for clip in clips:
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[-1] != 3:
            raise StgEvalError(f"clips are uint8 [T, H, W, 3], RGB; this one is {clip.dtype} {list(clip.shape)}")
    return extractor.extract(list(clips))
