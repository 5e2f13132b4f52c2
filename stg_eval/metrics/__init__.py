"""Metrics: clips in, scores out. Each is a scorer of single clips, or an extractor plus a pure statistic of the set.

A metric is one file: a module of this package that defines CARD (or CARDS, where several share it) is one, see
`stg_eval.metrics.registry`. Plans and suites read the cards, so importing such a file brings in no torch; its `load`
does, with the networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError
from stg_eval.weights import Weight


class ClipScorer(Protocol):
    """Scores one clip at a time from consecutive chunks of frames, in bounded memory. The smallest is
    `stg_eval.metrics.vbench.temporal_flickering.TemporalFlickering`."""

    signature: str

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        """Start a clip. `case` is None when a plain folder of videos is scored."""

    def update(self, frames: np.ndarray) -> None:
        """Return the next frames, uint8 [t, H, W, 3], RGB, 1 <= t."""

    def end(self) -> float:
        """Return the clip's score; nan where it is not defined (one frame has no flicker)."""
        ...


class Extractor(Protocol):
    """Turns clips into feature vectors; features are cached per clip under `signature`. The smallest
    is `stg_eval.metrics.sprites.PixelExtractor`."""

    signature: str

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        """Say which frames it looks at. Raises StgEvalError if the clip is too short."""
        ...

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        """Map clips uint8 [T, H, W, 3] of those frames -> features float32 [N, D]."""
        ...


@dataclass(frozen=True)
class SetMetric:
    """A set metric with its networks loaded; its card has the statistic, which needs none."""

    signature: str
    """Holds ``|n*|`` where the number of clips goes, see `stg_eval.metrics.registry.signed`."""
    extractor: Extractor


class PairScorer(Protocol):
    """Compares two clips that should look alike, frame by frame; the clip's score is the mean. The smallest is in
    `stg_eval.metrics.paired.psnr`."""

    signature: str

    def score(self, frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Map consecutive frames of both, uint8 [t, H, W, 3], RGB -> value of each, float [t]."""
        ...


Statistic = Callable[[np.ndarray, np.ndarray | None], float]
"""Features [N, D] of the set (and the reference's [M, D]) -> its score. Pure."""


class Part(NamedTuple):
    """A metric that goes into a total, as weight * (value - low) / (high - low)."""

    metric: str
    weight: float
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, kw_only=True)
class MetricCard:
    """What plans, tables and the gate need to know about a metric, without its networks."""

    name: str
    """Name in suites and on the command line, e.g. "temporal_flickering", "fvd"."""
    title: str
    """Name in tables, e.g. "Temporal Flickering"."""
    short: str
    """Column head in narrow tables, e.g. "TF"."""
    higher_is_better: bool | None
    """None: neither direction is better (a share of the real value, say): printed without arrow, verdict or bold."""
    load: Callable[[str], ClipScorer | SetMetric] | None = None
    """Brings in the networks on a device ("cuda", "cpu"). Raises StgEvalError that names the command for missing
    weights. None for a total and for a metric of pairs."""
    load_pair: Callable[[str], PairScorer] | None = None
    """In place of `load`, for a metric that compares a clip with the baseline's of the same case and seed."""
    statistic: Statistic | None = None
    """What makes a score of the features of a set; None for a metric that scores single clips."""
    parts: tuple[Part, ...] = ()
    """What a total is the sum of; no other metric has any."""
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
    filter: str = ""
    """Metric that says which clips of a case this one counts (those it gives 1), where a suite keeps the first few."""
    margin: float | str = "2%"
    """Smallest difference that matters to the gate, in the metric's own unit or in per cent of the baseline's value."""
    gated: bool = True
    """False: the gate shows it, and it cannot fail."""
    embedded: bool = False
    """Made for the embedded clips alone: nobody else's videos are scored with it."""
    note: str = ""
    """What a reader must know about the number, printed below tables."""
    citations: tuple[str, ...] = ()
    """BibTeX entries of its definition and of the networks behind it."""

    @property
    def kind(self) -> Literal["clip", "set", "total"]:
        """Whether single clips have values, or only their set, or it is a sum of other metrics."""
        return "total" if self.parts else "set" if self.statistic else "clip"

    def of_set(self, features: np.ndarray, reference: np.ndarray | None) -> float:
        """Map the statistic of a set metric: features [N, D], the reference's [M, D] -> its score.

        Raises StgEvalError for a metric of single clips, as a run of another version may have meant another metric.
        """
        if self.statistic is None:
            raise StgEvalError(f"{self.name} scores single clips: there is no value of a set of features")
        return self.statistic(features, reference)
