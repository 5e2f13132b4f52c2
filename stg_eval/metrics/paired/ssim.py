"""Structural similarity of a clip to its partner (Wang et al., 2004): mean over frames."""

from __future__ import annotations

import numpy as np

from stg_eval.metrics import MetricCard
from stg_eval.types import StgEvalError

SSIM_PAPER = """@article{wang2004ssim,
  title = {Image Quality Assessment: From Error Visibility to Structural Similarity},
  author = {Wang, Zhou and others},
  journal = {IEEE Transactions on Image Processing},
  year = {2004},
}"""


def frame_ssim(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return structural similarity of each frame, float64 [T] (Wang et al., 2004: 11 x 11 Gaussian, mean over
    channels).

    Inputs uint8 [T, H, W, 3]. Raises StgEvalError for frames smaller than the window."""
    if min(frames.shape[1:3]) < 11:
        raise StgEvalError(f"SSIM needs frames of at least 11 x 11 pixels, not {frames.shape[2]} x {frames.shape[1]}")
    import cv2

    def blur(image: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101))

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        mean_a, mean_b = blur(a), blur(b)
        variances = np.maximum(blur(a * a) - mean_a**2, 0) + np.maximum(blur(b * b) - mean_b**2, 0)
        covariance = blur(a * b) - mean_a * mean_b
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        return float((luminance * (2 * covariance + c2) / (variances + c2)).mean())

    pairs = zip(frames, reference, strict=True)  # one frame at a time: a clip in float64 can outgrow the memory
    return np.array([similarity(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs])


class SSIM:
    """A `PairScorer`: -1 to 1, 1 for equal frames."""

    signature = "ssim|frames|gauss11-1.5|rgb|v1"

    def score(self, frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
        return frame_ssim(frames, reference)


CARD = MetricCard(
    name="ssim",
    title="SSIM to the partner",
    short="SSIM",
    higher_is_better=None,
    load_pair=lambda device: SSIM(),
    limits=(-1.0, 1.0),
    margin=0.01,
    citations=(SSIM_PAPER,),
    note="Mean over frames and channels, against the baseline's clip of the same case and seed (in a folder: the file "
    "of the same name).",
)
