"""What is known of a video, and why one is refused."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from stg_eval.types import StgEvalError

Reader = Literal["pyav", "decord"]


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip before its frames: from the header, checked against the frames when they are read."""

    path: Path
    num_frames: int
    """The header's count; where it has none, the pictures in the file."""
    height: int
    """Of the frames as they are read: upright."""
    width: int
    fps: float
    codec: str
    """Codec and pixel format, e.g. "h264 yuv420p"."""
    bit_rate: float = 0.0
    """Bits of the whole file per second of video: the only trace of the encoder's quality that a file keeps."""
    notes: tuple[str, ...] = ()
    """What to know about the frames: how they were converted, and whether the file may have been cut. Ordinary clips
    have none."""


class UnreadableVideo(StgEvalError):
    """A file that cannot be read whole, with the reason."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[Any, ...]:
        return UnreadableVideo, (self.path, self.reason)


def check_reader(name: str) -> Reader:
    """Return `name`, if it is a reader that is installed. Raises StgEvalError."""
    if name not in get_args(Reader):
        raise StgEvalError(f"unknown reader {name!r} (known: {', '.join(get_args(Reader))})")
    if name == "decord" and importlib.util.find_spec("decord") is None:
        raise StgEvalError("the reader decord is not installed; `pip install decord`, or leave --reader out")
    return cast(Reader, name)
