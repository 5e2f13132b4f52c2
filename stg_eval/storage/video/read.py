"""Video files -> frames. One decode serves every metric.

Reading is PyAV; on 8-bit video the pixels equal OpenCV's and decord's bit for bit. A file that cannot be read wholly
(cut, damaged) is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stg_eval.storage.video.info import Reader, VideoInfo


def probe(path: Path) -> VideoInfo:
    """Return header of a video, with its first frame decoded. Raises UnreadableVideo."""
    return open_video(path)[0]


def read_frames(path: Path, chunk: int = 32, reader: Reader = "pyav") -> Iterator[np.ndarray]:
    """Return frames in order, uint8 [t, H, W, 3] (RGB), 1 <= t <= chunk, at most 64 MiB: memory does not grow with the
    video.

    Each chunk is an array of its own, which may be kept. Raises UnreadableVideo, at the latest behind the last frame:
    the count is compared with the header's.
    """
    return open_video(path, chunk, reader)[1]


def read_video(path: Path, reader: Reader = "pyav") -> np.ndarray:
    """Return all frames, uint8 [T, H, W, 3] (RGB). Raises UnreadableVideo."""
    return np.concatenate(list(read_frames(path, reader=reader)))


def open_video(path: Path, chunk: int = 32, reader: Reader = "pyav") -> tuple[VideoInfo, Iterator[np.ndarray]]:
    """Return `probe` and `read_frames` of one opening."""
    # They bring in libav: who plans or resumes a run opens no video.
    from stg_eval.storage.video.by_decord import decode_in_child
    from stg_eval.storage.video.decode import decode

    source = decode_in_child(path, chunk, 60.0) if reader == "decord" else decode(path, chunk)
    info: VideoInfo = next(source)
    return info, source
