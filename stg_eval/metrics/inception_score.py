"""Inception Score of videos: how sure a classifier is of each clip, and how varied its answers are over the set.

"IS on 10,000 samples" does not fix the score: three protocols are in use, which differ in splits, shuffle, epsilon and
in how frames reach the network. Each is a named preset here, and its name is part of the signature. The statistic is
pure; `stg_eval.metrics.loops` has it as a torchmetrics.Metric.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stg_eval.metrics import CachedFeatures, Extractor, Statistic
from stg_eval.types import StgEvalError

VERSION = "v1"


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
    """Probabilities float64 [N, classes] of logits."""
    x = np.asarray(logits, dtype=np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def score_logits(logits: ArrayLike, protocol: Protocol) -> Score:
    """The Inception Score of logits [N, classes] under a protocol."""
    n = len(np.asarray(logits))
    return inception_score(
        softmax(logits), splits=protocol.num_splits(n), shuffle_seed=protocol.shuffle_seed, eps=protocol.eps
    )


@dataclass
class InceptionScore:
    """A set metric: a classifier's logits and their Inception Score under a protocol."""

    extractor: Extractor
    protocol: Protocol
    signature: str = field(init=False)
    """``IS|<extractor>|n*|<protocol>|<splits>|<shuffle>|<eps>|v1``; `registry.counted` fills in the number of clips."""

    def __post_init__(self) -> None:
        p = self.protocol
        splits = f"splits-of-{p.split_size}" if p.split_size else f"{p.splits}-splits"
        shuffle = "unshuffled" if p.shuffle_seed is None else f"shuffle{p.shuffle_seed}"
        self.signature = f"IS|{self.extractor.signature}|n*|{p.name}|{splits}|{shuffle}|eps{p.eps:g}|{VERSION}"

    def statistic(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Logits [N, classes] -> the mean over splits. `score_logits` gives the spread too."""
        return score_logits(features, self.protocol).mean


def statistic(name: str) -> Statistic:
    """`load(...).statistic` for features that are cached: no network, no weights."""
    return InceptionScore(CachedFeatures(), _protocol(name)).statistic


def load(name: str, device: str) -> InceptionScore:
    """IS with C3D (UCF-101): "is_tgan", "is_tganv2", or "is" in StyleGAN-V's protocol, the one of recent papers."""
    from stg_eval.metrics import c3d

    protocol = _protocol(name)
    return InceptionScore(c3d.load(device, protocol.name), protocol)


def _protocol(name: str) -> Protocol:
    return PROTOCOLS["stylegan-v" if name == "is" else name.removeprefix("is_")]
