"""Sharpness: how much neighbouring pixels differ. Importing this brings in no torch: plans read the card alone."""

from __future__ import annotations

import numpy as np

from stg_eval import Case
from stg_eval.metrics import MetricCard
from stg_eval.storage.video import VideoInfo


class Sharpness:
    """A `stg_eval.metrics.ClipScorer`: mean difference of horizontal neighbours, 0 to 255."""

    signature = "sharpness|horizontal|v1"  # change it whenever the number changes: scores are kept under it

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self.total, self.num_frames = 0.0, 0

    def update(self, frames: np.ndarray) -> None:  # uint8 [t, H, W, 3], in chunks: a clip is never held whole
        self.total += float(np.abs(np.diff(frames.astype(np.float64), axis=2)).mean(axis=(1, 2, 3)).sum())
        self.num_frames += len(frames)

    def end(self) -> float:
        return self.total / self.num_frames


CARD = MetricCard(
    name="sharpness",
    title="Sharpness",
    short="Sharp",
    higher_is_better=None,  # noise is sharp too
    load=lambda device: Sharpness(),
    digits=2,
    margin="5%",
    note="Mean absolute difference of horizontal neighbours, 0 to 255.",
)
