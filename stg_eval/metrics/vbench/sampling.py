"""Which frames a dimension looks at: the middles of equal parts, picked as the clip streams by.

Source: vbench 0.1.5, vbench/utils.py, get_frame_indices with sample="middle".
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from stg_eval.storage.video import VideoInfo
from stg_eval.types import StgEvalError


def middle_indices(wanted: int, num_frames: int) -> list[int]:
    """Return Middle frames of `wanted` equal parts of a clip; a clip with fewer frames gives all, the last one
    repeated."""
    parts = min(wanted, num_frames)
    edges = np.linspace(0, num_frames, parts + 1).astype(int).tolist()
    indices = [(start + end - 1) // 2 for start, end in pairwise(edges)]
    return indices + [indices[-1]] * (wanted - parts)


class MiddleFrames:
    """Keeps `wanted` frames of a clip as its chunks pass, so memory does not grow with the clip."""

    def __init__(self, wanted: int, video: VideoInfo) -> None:
        if not video.num_frames:
            raise StgEvalError("the clip's number of frames is unknown, and which frames count depends on it")
        self._indices = middle_indices(wanted, video.num_frames)
        self._expected, self._seen = video.num_frames, 0
        self._kept: dict[int, np.ndarray] = {}

    def update(self, frames: np.ndarray) -> None:
        """Return the next frames, uint8 [t, H, W, 3]."""
        for index in self._indices:
            if self._seen <= index < self._seen + len(frames):
                self._kept[index] = frames[index - self._seen].copy()
        self._seen += len(frames)

    def take(self) -> list[np.ndarray]:
        """Return the `wanted` frames in order, uint8 [H, W, 3] each. Raises StgEvalError where the header lied."""
        if self._seen != self._expected:
            raise StgEvalError("the header's frame count is wrong, and the score depends on it; re-encode the clip")
        return [self._kept[index] for index in self._indices]
