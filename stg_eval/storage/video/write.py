"""Frames -> video files: how clips of a run are stored."""

from __future__ import annotations

import io
import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from stg_eval.storage import atomic
from stg_eval.types import StgEvalError

ENCODINGS = {
    "vp9-lossless": "VP9, lossless RGB, in mp4: what is read is what was written; plays in browsers",
    "h264-crf<N>": "H.264 4:2:0 at constant quality N (0 best, 51 worst; 17 looks lossless), in mp4: plays everywhere",
}
"""How clips are stored. Lossy encodings move FVD and IS, so the encoding is part of a request."""


def write_video(path: Path, frames: np.ndarray, fps: float, encoding: str) -> None:
    """Encode uint8 frames [T, H, W, 3] (RGB) and put the file in place at once: readers see all of it or nothing.

    Raises StgEvalError for an unknown encoding, frames that are not uint8 RGB, a size that the codec would change,
    and a disk that is full or cannot be written.
    """
    data = encode(frames, fps, encoding)
    try:
        with atomic.replacing(path) as partial, open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StgEvalError(f"cannot write {path}: {error.strerror}") from error


def encode(frames: np.ndarray, fps: float, encoding: str) -> bytes:
    """Return an mp4 file in memory; the same input gives the same bytes on any number of cores. See `write_video`."""
    import av

    codec, pixel_format, options = _encoder(encoding)
    _check_frames(frames)
    check_format(encoding, fps, *frames.shape[1:3])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = 0 if pixel_format == "gbrp" else 6  # AVCOL_SPC_RGB, AVCOL_SPC_SMPTE170M
        for array in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def check_format(encoding: str, fps: float, height: int, width: int) -> None:
    """Raises StgEvalError for what `encode` refuses whatever the frames show, so that a plan can refuse it at once."""
    _, pixel_format, _ = _encoder(encoding)
    if not 0 < fps <= 1000:
        raise StgEvalError(f"fps must lie between 0 and 1000, not {fps}")
    if pixel_format == "yuv420p" and (height % 2 or width % 2):
        raise StgEvalError(f"H.264 4:2:0 cannot hold {width}x{height} (odd sides) unchanged; use vp9-lossless")


def _encoder(encoding: str) -> tuple[str, str, dict[str, str]]:
    if encoding == "vp9-lossless":
        return "libvpx-vp9", "gbrp", {"lossless": "1", "deadline": "good", "cpu-used": "4"}
    if (match := re.fullmatch(r"h264-crf(\d+)", encoding)) and int(match[1]) <= 51:
        return "libx264", "yuv420p", {"crf": match[1], "preset": "medium"}
    raise StgEvalError(f"unknown encoding {encoding!r} (known: {', '.join(ENCODINGS)}, for example h264-crf17)")


def _check_frames(frames: np.ndarray) -> None:
    if np.issubdtype(frames.dtype, np.floating) and not np.isfinite(frames).all():
        raise StgEvalError("the frames hold NaN or infinite values; the generator failed, nothing was written")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise StgEvalError(f"frames must be uint8 [T, H, W, 3], not {frames.dtype} {list(frames.shape)}")
