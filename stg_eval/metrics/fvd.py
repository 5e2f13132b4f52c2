"""Fréchet Video Distance: how far two sets of feature vectors lie apart, each seen as one Gaussian.

The statistic is pure and takes any features. `stg_eval.metrics.loops` has it as a torchmetrics.Metric.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from stg_eval import weights
from stg_eval.metrics import MetricCard, SetMetric
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight

VERSION = "v1"

VIDEOMAE = Weight(
    name="videomae-g-ssv2",
    needed_by="metrics fvd, fvd_unbiased",
    licence="CC-BY-NC-4.0",
    size=2_023_804_201,
    sha256="5a210a92f035dff30c53b46157b612e7a1a5d3c99700e1b2d71da5c399ca7e70",
    repo="OpenGVLab/VideoMAE2",
    revision="97d119d270aca7a1217fff7f413c0c543eb325d9",
    file="mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
)

Gaussian = tuple[np.ndarray, np.ndarray]
"""Mean [D] and a root R of the covariance R'R, [at most D, D]."""

FVD_PAPER = """@article{unterthiner2018fvd,
  title = {Towards Accurate Generative Models of Video: A New Metric \\& Challenges},
  author = {Unterthiner, Thomas and others},
  journal = {arXiv preprint arXiv:1812.01717},
  year = {2018},
}"""
CONTENT_PAPER = """@inproceedings{ge2024content,
  title = {On the Content Bias in {Fr{\\'e}chet} Video Distance},
  author = {Ge, Songwei and others},
  booktitle = {CVPR},
  year = {2024},
}"""
VIDEOMAE_PAPER = """@inproceedings{wang2023videomae2,
  title = {{VideoMAE V2}: Scaling Video Masked Autoencoders with Dual Masking},
  author = {Wang, Limin and others},
  booktitle = {CVPR},
  year = {2023},
}"""


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
    """Return mean [D] and R [min(N, D), D], the triangular root of the covariance."""
    if ddof not in (0, 1):
        raise StgEvalError(f"ddof is 0 (covariance over n) or 1 (over n - 1), not {ddof}")
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise StgEvalError(f"a Fréchet distance needs features [N, D] of at least two clips, not {x.shape}")
    if not np.isfinite(x).all():
        raise StgEvalError(f"the features of {int((~np.isfinite(x).all(axis=1)).sum())} clips are not finite")
    mean = x.mean(axis=0)
    return mean, np.linalg.qr(x - mean, mode="r") / np.sqrt(len(x) - ddof)


class FrechetStatistic:
    """The statistic of a set metric: `frechet_distance` from the reference."""

    def __init__(self, ddof: int = 0) -> None:
        self.ddof = ddof
        self._real: tuple[np.ndarray, Gaussian] | None = None

    def __call__(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Map features [N, D] and the reference's [M, D] -> the distance.

        Tests and intervals ask for hundreds of distances to one reference: its Gaussian is kept for as long as the very
        same array comes in, so do not change that array in place.
        """
        if reference is None:
            raise StgEvalError("FVD compares with real clips and got none")
        if self._real is None or self._real[0] is not reference:
            self._real = (reference, _gaussian(reference, self.ddof))
        return _distance(_gaussian(features, self.ddof), self._real[1])


def load(device: str, ddof: int = 0) -> SetMetric:
    """Return the distance on VideoMAE-v2 features. Raises StgEvalError where the weights are missing."""
    from stg_eval.metrics import videomae

    extractor = videomae.load(weights.require(VIDEOMAE), device)
    return SetMetric(f"FVD|{extractor.signature}|n*|{'cov-n-1' if ddof else 'cov-n'}|{VERSION}", extractor)


_card = partial(
    MetricCard,
    higher_is_better=False,
    digits=1,
    limits=(0.0, math.inf),
    needs_reference=True,
    min_clips=256,
    weights=(VIDEOMAE,),
    citations=(FVD_PAPER, CONTENT_PAPER, VIDEOMAE_PAPER),
    margin="5%",  # STG gains 15 % over CFG in the paper's Table 2
)
CARDS = (
    _card(
        name="fvd",
        title="Fréchet Video Distance",
        short="FVD",
        load=load,
        statistic=FrechetStatistic(),
        note="Content-debiased FVD (VideoMAE-v2 ViT-g). It falls as n grows: compare equal n only (2,048 is usual).",
    ),
    _card(
        name="fvd_unbiased",
        title="Fréchet Video Distance (n - 1)",
        short="FVD-u",
        load=partial(load, ddof=1),
        statistic=FrechetStatistic(ddof=1),
        note="FVD with covariances over n - 1, as some scripts have it; content-debiased FVD divides by n.",
    ),
)
