"""Inception Score of videos: how sure a classifier is of each clip, and how varied its answers are over the set.

"IS on 10,000 samples" does not fix the score: three protocols are in use, which differ in splits, shuffle, epsilon and
in how frames reach the network. Each is a named preset here, and its name is part of the signature. The statistic is
pure; `stg_eval.metrics.loops` has it as a torchmetrics.Metric.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stg_eval import weights
from stg_eval.metrics import MetricCard, SetMetric
from stg_eval.types import StgEvalError
from stg_eval.weights import Weight

VERSION = "v1"

C3D = Weight(
    name="c3d-ucf101",
    needed_by="metrics is, is_tgan, is_tganv2",
    licence="not stated",
    size=314_000_000,
    url="https://github.com/rezoo/tgan2/releases/download/v1.0/conv3d_deepnetA_ucf.npz",
    file="conv3d_deepnetA_ucf.npz",
)
MEAN_CLIP = Weight(
    name="c3d-mean",
    needed_by="metrics is, is_tgan, is_tganv2",
    licence="not stated",
    size=4_200_000,
    url="https://github.com/rezoo/tgan2/releases/download/v1.0/mean2.npz",
    file="mean2.npz",
)

IS_PAPER = """@inproceedings{salimans2016improved,
  title = {Improved Techniques for Training {GANs}},
  author = {Salimans, Tim and others},
  booktitle = {NeurIPS},
  year = {2016},
}"""
C3D_PAPER = """@inproceedings{tran2015c3d,
  title = {Learning Spatiotemporal Features with {3D} Convolutional Networks},
  author = {Tran, Du and others},
  booktitle = {ICCV},
  year = {2015},
}"""
TGAN_PAPER = """@article{saito2020tganv2,
  title = {Train Sparsely, Generate Densely: Memory-Efficient Unsupervised Training of High-Resolution Temporal {GAN}},
  author = {Saito, Masaki and others},
  journal = {International Journal of Computer Vision},
  year = {2020},
}"""


@dataclass(frozen=True)
class Protocol:
    """How a published Inception Score was computed."""

    name: str
    num_samples: int
    """Clips behind one published number."""
    split_size: int | None = None
    """Clips of a split; the scores of the splits are averaged. None: `splits` says how many there are."""
    splits: int = 1
    shuffle_seed: int | None = None
    """Seed of the NumPy shuffle before splitting. None: splits are cut from the clips in their order."""
    eps: float = 0.0
    """Added to probabilities inside the logarithms."""

    def num_splits(self, n: int) -> int:
        """Into how many splits `n` clips are cut."""
        return max(1, round(n / self.split_size)) if self.split_size else self.splits


PROTOCOLS = {
    p.name: p
    for p in (
        # One score over 9,984 samples (208 batches of 48); the paper gives its spread over 4 seeds.
        Protocol("tgan", num_samples=9984, split_size=9984, eps=1e-7),
        # The mean and spread of 10 scores over 2,048 samples each.
        Protocol("tganv2", num_samples=20480, split_size=2048, eps=1e-20),
        # 2,048 samples in 10 shuffled splits. A class that underflows to 0 gives nan.
        Protocol("stylegan-v", num_samples=2048, splits=10, shuffle_seed=42),
    )
}


class Score(NamedTuple):
    """An Inception Score."""

    mean: float
    spread: float
    """Population standard deviation over the splits; 0 where there is one."""
    splits: int


def inception_score(
    probabilities: ArrayLike, *, splits: int = 1, shuffle_seed: int | None = None, eps: float = 0.0
) -> Score:
    """exp(mean over clips of KL(p(y|x) || p(y))), Salimans et al. 2016, averaged over splits; in float64.

    Args:
        probabilities: [N, classes], each row sums to 1. A zero gives nan unless `eps` is positive, as in the originals.
        splits: Consecutive parts, of equal size up to one clip, that are scored one by one.
        shuffle_seed: Shuffle the clips first, as ``numpy.random.RandomState(seed).shuffle`` does. Without it, clips in
            the order of their classes score far too low when there are splits.
        eps: Added to probabilities inside the logarithms.

    Raises:
        StgEvalError: fewer clips than splits, or rows that are no probabilities.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not np.allclose(p.sum(axis=1), 1, atol=1e-4) or (p < 0).any():
        raise StgEvalError("Inception Score needs probabilities [N, classes], each row >= 0 with sum 1")
    n = len(p)
    if not 1 <= splits <= n:
        raise StgEvalError(f"Inception Score over {splits} splits needs at least as many clips, not {n}")
    if shuffle_seed is not None:
        p = p[np.random.RandomState(shuffle_seed).permutation(n)]  # the protocols name this generator
    scores = [_score(p[i * n // splits : (i + 1) * n // splits], eps) for i in range(splits)]
    return Score(float(np.mean(scores)), float(np.std(scores)), splits)


def _score(p: np.ndarray, eps: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        divergence = p * (np.log(p + eps) - np.log(p.mean(axis=0) + eps))
    return float(np.exp(divergence.sum(axis=1).mean()))


def softmax(logits: ArrayLike) -> np.ndarray:
    """Return probabilities float64 [N, classes] of logits."""
    x = np.asarray(logits, dtype=np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def score_logits(logits: ArrayLike, protocol: Protocol) -> Score:
    """Return the Inception Score of logits [N, classes] under a protocol."""
    n = len(np.asarray(logits))
    return inception_score(
        softmax(logits), splits=protocol.num_splits(n), shuffle_seed=protocol.shuffle_seed, eps=protocol.eps
    )


def _statistic(logits: np.ndarray, reference: np.ndarray | None, *, protocol: Protocol) -> float:
    return score_logits(logits, protocol).mean


def load(device: str, protocol: Protocol) -> SetMetric:
    """Return IS with C3D (UCF-101) under a protocol. Raises StgEvalError where the weights are missing."""
    from stg_eval.metrics import c3d

    extractor = c3d.load(weights.require(C3D), weights.require(MEAN_CLIP), device, protocol.name)
    splits = f"splits-of-{protocol.split_size}" if protocol.split_size else f"{protocol.splits}-splits"
    shuffle = "unshuffled" if protocol.shuffle_seed is None else f"shuffle{protocol.shuffle_seed}"
    steps = f"{protocol.name}|{splits}|{shuffle}|eps{protocol.eps:g}"
    return SetMetric(f"IS|{extractor.signature}|n*|{steps}|{VERSION}", extractor)


def _card(name: str, title: str, short: str, protocol: str, note: str) -> MetricCard:
    chosen = PROTOCOLS[protocol]
    return MetricCard(
        name=name,
        title=title,
        short=short,
        higher_is_better=True,
        load=partial(load, protocol=chosen),
        statistic=partial(_statistic, protocol=chosen),
        digits=2,
        limits=(1.0, math.inf),
        min_clips=256,
        weights=(C3D, MEAN_CLIP),
        margin="1%",  # STG gains 1.3 % over CFG in the paper's Table 2
        citations=(IS_PAPER, TGAN_PAPER, C3D_PAPER),
        note=note,
    )


CARDS = (
    _card(
        "is",
        "Inception Score",
        "IS",
        "stylegan-v",
        "C3D trained on UCF-101, so for its classes alone. StyleGAN-V's protocol: 10 shuffled splits, n 2,048.",
    ),
    _card(
        "is_tgan",
        "Inception Score (TGAN)",
        "IS-t1",
        "tgan",
        "TGAN's protocol: one split, usually of 9,984 clips; frames through 128 x 128, cubic.",
    ),
    _card(
        "is_tganv2",
        "Inception Score (TGANv2)",
        "IS-t2",
        "tganv2",
        "TGANv2's protocol: the mean over splits of 2,048 clips, usually ten.",
    ),
)
