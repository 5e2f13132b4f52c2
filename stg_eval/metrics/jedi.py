"""JEDi (Luo et al., ICLR 2025): how far two sets of V-JEPA features lie apart, by a polynomial kernel.

Source: videojedi 1.1.0. 100 times the squared maximum mean discrepancy under k(x, y) = (<x, y> / D)^2, over all pairs,
a clip with itself included. It needs no Gaussian and settles with fewer clips than FVD.
"""

from __future__ import annotations

import math

import numpy as np

from stg_eval import weights
from stg_eval.metrics import MetricCard, SetMetric
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight

VERSION = "v1"

VJEPA = Weight(
    name="vjepa-h-16",
    needed_by="metric jedi",
    licence="CC-BY-NC-4.0",
    size=10_400_000_000,
    url="https://dl.fbaipublicfiles.com/jepa/vith16/vith16.pth.tar",
    file="vith16.pth.tar",
)
PROBE = Weight(
    name="vjepa-h-16-ssv2",
    needed_by="metric jedi",
    licence="CC-BY-NC-4.0",
    size=0,
    url="https://dl.fbaipublicfiles.com/jepa/vith16/ssv2-probe.pth.tar",
    file="ssv2-probe.pth.tar",
)

JEDI_PAPER = """@inproceedings{luo2025jedi,
  title = {Beyond {FVD}: Enhanced Evaluation Metrics for Video Generation Quality},
  author = {Luo, Ge Ya and others},
  booktitle = {ICLR},
  year = {2025},
}"""


class PolynomialDiscrepancy:
    """The statistic of a set metric: 100 MMD^2 under (<x, y> / D)^2.

    The mean of <x, y>^2 over all pairs is the inner product of the two sets' second moments, so the whole is the
    squared distance between these, D x D each: as exact, never negative, and linear in the number of clips.
    """

    def __init__(self) -> None:
        self._real: tuple[np.ndarray, np.ndarray] | None = None

    def __call__(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Map features [N, D] and the reference's [M, D] -> the discrepancy, >= 0. The moment of the same reference
        array is kept for the next call."""
        if reference is None:
            raise StgEvalError("JEDi compares with real clips and got none")
        if self._real is None or self._real[0] is not reference:
            self._real = (reference, second_moment(reference))
        ours, real = second_moment(features), self._real[1]
        if ours.shape != real.shape:
            raise StgEvalError(f"the two sets have features of {len(ours)} and {len(real)} dimensions")
        return 100.0 * float(np.square(ours - real).sum()) / len(real) ** 2


def second_moment(features: np.ndarray) -> np.ndarray:
    """Return mean of x x' over the clips, float64 [D, D]. Raises StgEvalError for no clips or values that are not
    finite."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 1:
        raise StgEvalError(f"JEDi needs features [N, D] of at least one clip, not {x.shape}")
    if not np.isfinite(x).all():
        raise StgEvalError(f"the features of {int((~np.isfinite(x).all(axis=1)).sum())} clips are not finite")
    moment: np.ndarray = x.T @ x / len(x)
    return moment


def load(device: str) -> SetMetric:
    """Return the discrepancy on V-JEPA features. Raises StgEvalError where the weights are missing."""
    from stg_eval.metrics import vjepa

    extractor = vjepa.load(weights.require(VJEPA), weights.require(PROBE), device)
    return SetMetric(f"JEDi|{extractor.signature}|n*|poly2|{VERSION}", extractor)


CARD = MetricCard(
    name="jedi",
    title="JEPA Embedding Distance",
    short="JEDi",
    higher_is_better=False,
    load=load,
    statistic=PolynomialDiscrepancy(),
    digits=3,
    limits=(0.0, math.inf),
    needs_reference=True,
    min_clips=256,
    weights=(VJEPA, PROBE),
    margin="5%",
    citations=(JEDI_PAPER,),
    note="JEDi (V-JEPA ViT-H/16 with the SSv2 probe, polynomial MMD). Frames are cropped to 224 x 224.",
)
