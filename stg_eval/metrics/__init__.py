"""Metrics: clips in, scores out. Each is a scorer of single clips, or an extractor plus a pure statistic of the set.

Metrics are described by light `MetricCard`s (no torch), which suites and plans read; `load_*` brings in the networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case
from stg_eval.weights import Weight


@dataclass(frozen=True, kw_only=True)
class MetricCard:
    """What a plan and a table need to know about a metric, without loading it."""

    name: str
    """Name in suites and on the command line, e.g. "temporal_flickering", "fvd"."""
    title: str
    """Name in tables, e.g. "Temporal Flickering"."""
    short: str
    """Column head in narrow tables, e.g. "TF"."""
    kind: Literal["clip", "set"]
    higher_is_better: bool | None
    """None: neither direction is better (a share of the real value, say): printed without arrow, verdict or bold."""
    module: str
    """Module that defines load(name, device) -> ClipScorer (clip) or SetMetric (set). A set metric with large networks
    defines statistic(name) -> Statistic too, so that cached features need no network."""
    scale: float = 1.0
    """Factor from the stored value to the printed one."""
    digits: int = 3
    """Digits behind the point in tables."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """What the value can be at least and at most. A jackknife does not know; its interval is cut there."""
    needs_reference: bool = False
    needs_case: bool = False
    """Looks at the prompt or label, so a plain folder of videos cannot be scored."""
    min_clips: int = 1
    """A set metric refuses fewer clips than this."""
    weights: tuple[Weight, ...] = ()
    """The checkpoints that it loads."""
    note: str = ""
    """What a reader must know about the number, printed below tables."""


class ClipScorer(Protocol):
    """Scores one clip at a time from consecutive chunks of frames, in bounded memory."""

    signature: str

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        """Start a clip. `case` is None when a plain folder of videos is scored."""

    def update(self, frames: np.ndarray) -> None:
        """The next frames, uint8 [t, H, W, 3], RGB, 1 <= t."""

    def end(self) -> float:
        """The clip's score; nan where it is not defined (one frame has no flicker)."""
        ...


class Extractor(Protocol):
    """Turns clips into feature vectors; features are cached per clip under `signature`."""

    signature: str

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Which frames it looks at. Raises StgEvalError if the clip is too short."""
        ...

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Clips uint8 [T, H, W, 3] of those frames -> features float32 [N, D]."""
        ...


class SetMetric(Protocol):
    """An extractor and a pure statistic."""

    signature: str
    extractor: Extractor

    def statistic(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Features [N, D] (and the reference's [M, D]) -> the score of the set."""
        ...


Statistic = Callable[[np.ndarray, np.ndarray | None], float]
"""`SetMetric.statistic`."""


class CachedFeatures:
    """The extractor of a set metric whose features are all there already."""

    signature = "cached"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        raise NotImplementedError("features are cached: there is no network to look at frames")

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        raise NotImplementedError("features are cached: there is no network to extract them")
