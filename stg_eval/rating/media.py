"""What a rater's browser gets of a clip: bytes whose size, name and headers do not tell one guidance from another.

Also the altered clips of a study: anchors, which screen careless raters, and the examples of the instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from stg_eval.rating.study import RatedClip
from stg_eval.storage.inside import clip_path, inside

BLOCK = 1 << 16
"""Sizes are rounded up to a multiple of this."""
BLUR = 0.06
"""Standard deviation of the blur, as a share of the shorter side."""


def blurred(frames: np.ndarray) -> np.ndarray:
    """Return frames uint8 [T, H, W, 3], each smoothed by a Gaussian: bad pictures, the same motion."""
    from scipy.ndimage import gaussian_filter

    sigma = max(1.0, BLUR * min(frames.shape[1:3]))
    out: np.ndarray = gaussian_filter(frames.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
    rounded: np.ndarray = np.rint(out).clip(0, 255).astype(np.uint8)
    return rounded


def frozen(frames: np.ndarray) -> np.ndarray:
    """Return frames uint8 [T, H, W, 3]: the middle one, as long as the clip: good pictures, no motion."""
    return np.repeat(frames[len(frames) // 2][None], len(frames), axis=0)


def jumbled(frames: np.ndarray) -> np.ndarray:
    """Return frames uint8 [T, H, W, 3] in an order that jumps: nothing stays where it was."""
    return frames[np.random.default_rng(0).permutation(len(frames))]


ANCHORS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"frozen": frozen, "blurred": blurred}
"""Hidden among a rater's clips where the study asks for them; see `stg_eval.rating.analysis.rater_checks`."""

EXAMPLES: Mapping[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "blurred": ("Blurred pictures: video quality 1", blurred),
    "frozen": ("Nothing moves: motion 1", frozen),
    "jumbled": ("Frames out of order: consistency over time 1", jumbled),
}
"""Shown with the instructions, named for what they are."""


def path_of(clip: RatedClip, store: Path, folder: Path) -> Path:
    """Say where a clip lies: below the store, an anchor below the study's folder.

    Raises StgEvalError for a path that leads out of there, as a foreign study might hold one.
    """
    return inside(folder, clip.file) if clip.anchor else clip_path(store, clip.file, "")


def padded_size(sizes: list[int]) -> int:
    """Return the one size that all clips of a study are brought to, in bytes."""
    return -(-(max(sizes) + 8) // BLOCK) * BLOCK


def padded(data: bytes, size: int) -> bytes:
    """Return an MP4 file with a `free` box behind it that makes it `size` bytes long; players skip such boxes (ISO
    14496-12, 8.1.2). size: at least 8 bytes more than there are."""
    gap = size - len(data)
    return data + gap.to_bytes(4, "big") + b"free" + bytes(gap - 8)
