"""Temporal flickering: (255 - mean absolute difference of neighbouring frames) / 255.

Source: vbench 0.1.5, vbench/temporal_flickering.py. VBench uses it on videos that should be still. Bit-equal to the
official score, which means float32 averages: an exact mean would differ by about 1e-8.
"""

from __future__ import annotations

import numpy as np

from stg_eval.metrics import MetricCard
from stg_eval.metrics.vbench import DIMENSION, VBENCH, VERSION
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case


class TemporalFlickering:
    """A `ClipScorer`: 0 to 1, higher is steadier; nan for one frame."""

    signature = f"temporal_flickering|vbench{VERSION}|v1"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self._last: np.ndarray | None = None
        self._errors: list[np.float32] = []

    def update(self, frames: np.ndarray) -> None:
        import cv2

        for frame in frames:
            # The order of a float32 sum shows in its last bit, and the official one runs over BGR.
            bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
            if self._last is not None:
                self._errors.append(pair_mae(self._last, bgr))
            self._last = bgr

    def end(self) -> float:
        return flickering(self._errors)


def pair_mae(first: np.ndarray, second: np.ndarray) -> np.float32:
    """Return mean absolute difference of two uint8 images, averaged in float32 as `calculate_mae` does."""
    import cv2

    difference: np.float32 = np.mean(cv2.absdiff(first, second).astype(np.float32))
    return difference


def flickering(errors: list[np.float32]) -> float:
    """Map errors of neighbouring pairs -> score."""
    if not errors:
        return float("nan")
    return (255.0 - float(np.mean(np.array(errors, np.float32)))) / 255.0


def load(device: str) -> TemporalFlickering:
    """Return the scorer. It has no network, and runs on the CPU whatever the device."""
    return TemporalFlickering()


CARD = MetricCard(
    name="temporal_flickering",
    title="Temporal Flickering",
    short="TF",
    higher_is_better=True,
    load=load,
    filter="static_filter",
    margin=0.001,  # STG gains .002 over CFG in the paper's Table 1
    citations=(VBENCH,),
    note=DIMENSION + " A still clip scores 1.",
)
