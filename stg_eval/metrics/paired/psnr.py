"""Peak signal-to-noise ratio of a clip against its partner: mean over frames, in dB."""

from __future__ import annotations

import numpy as np

from stg_eval.metrics import MetricCard

MOST = 100.0
"""What equal frames count as: their ratio is infinite, and no mean with an infinite value says anything."""


def frame_psnr(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return peak signal-to-noise ratio of each frame in dB, float64 [T]; infinite for equal frames.

    Inputs uint8 [T, H, W, 3]."""
    errors = [((a.astype(np.float64) - b) ** 2).mean() for a, b in zip(frames, reference, strict=True)]
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255**2 / np.array(errors)))


class PSNR:
    """A `PairScorer`: dB, higher is more alike."""

    signature = "psnr|frames|at-most-100|v1"

    def score(self, frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
        capped: np.ndarray = np.minimum(frame_psnr(frames, reference), MOST)
        return capped


CARD = MetricCard(
    name="psnr",
    title="PSNR to the partner, dB",
    short="PSNR",
    higher_is_better=None,
    load_pair=lambda device: PSNR(),
    digits=1,
    limits=(0.0, MOST),
    margin=0.5,
    note="Mean over frames, against the baseline's clip of the same case and seed (in a folder: the file of the same "
    "name); equal frames count as 100 dB.",
)
