"""Fréchet Video Distance: how far two sets of feature vectors lie apart, each seen as one Gaussian.

The statistic is pure and takes any features. `stg_eval.metrics.loops` has it as a torchmetrics.Metric.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from stg_eval.metrics import CachedFeatures, Extractor, Statistic
from stg_eval.types import StgEvalError

VERSION = "v1"
Gaussian = tuple[np.ndarray, np.ndarray]
"""Mean [D] and a root R of the covariance R'R, [at most D, D]."""


def frechet_distance(features: ArrayLike, reference: ArrayLike, *, ddof: int = 0) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), Eq. 6 of Heusel et al. 2017, in float64.

    With S = R'R / (n - ddof) from a QR decomposition of the centred features, (S1 S2)^(1/2) has the trace of
    (M M')^(1/2) for M = R1 R2': the sum of M's singular values. That needs neither covariances, which square the
    condition number, nor a matrix square root, which is slower and fails where S is singular.

    Args:
        features: [N, D], any real dtype, finite.
        reference: [M, D], the real set. The distance is symmetric.
        ddof: Covariances are divided by n - ddof: 0 as content-debiased FVD does, 1 as DIGAN's script.

    Returns:
        The distance, >= 0 up to rounding. It grows as N or M gets smaller: compare equal counts only.

    Raises:
        StgEvalError: different D, fewer than two clips, or features that are not finite.
    """
    return _distance(_gaussian(features, ddof), _gaussian(reference, ddof))


def _distance(features: Gaussian, reference: Gaussian) -> float:
    (mean, root), (reference_mean, reference_root) = features, reference
    if mean.shape != reference_mean.shape:
        raise StgEvalError(f"the two sets have features of {mean.size} and {reference_mean.size} dimensions")
    trace = np.linalg.svd(root @ reference_root.T, compute_uv=False).sum()
    difference = mean - reference_mean
    return float(difference @ difference + np.square(root).sum() + np.square(reference_root).sum() - 2 * trace)


def _gaussian(features: ArrayLike, ddof: int) -> Gaussian:
    """Mean [D] and R [min(N, D), D], the triangular root of the covariance."""
    if ddof not in (0, 1):
        raise StgEvalError(f"ddof is 0 (covariance over n) or 1 (over n - 1), not {ddof}")
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
    _real: tuple[np.ndarray, Gaussian] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        self.signature = f"FVD|{self.extractor.signature}|n*|{'cov-n-1' if self.ddof else 'cov-n'}|{VERSION}"

    def statistic(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Features [N, D] and the reference's [M, D] -> the distance. See `frechet_distance`.

        Tests and intervals ask for hundreds of distances to one reference: its Gaussian is kept for as long as the very
        same array comes in, so do not change that array in place.
        """
        if reference is None:
            raise StgEvalError("FVD compares with real clips and got none")
        if self._real is None or self._real[0] is not reference:
            self._real = (reference, _gaussian(reference, self.ddof))
        return _distance(_gaussian(features, self.ddof), self._real[1])


def statistic(name: str) -> Statistic:
    """`load(...).statistic` for features that are cached: no network, no weights."""
    return FVD(CachedFeatures(), _ddof(name)).statistic


def load(name: str, device: str) -> FVD:
    """FVD on VideoMAE-v2 features: "fvd" is content-debiased FVD (Ge et al., CVPR 2024), "fvd_unbiased" has n - 1."""
    from stg_eval.metrics import videomae

    return FVD(videomae.load(device), _ddof(name))


def _ddof(name: str) -> int:
    return {"fvd": 0, "fvd_unbiased": 1}[name]
