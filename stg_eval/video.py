"""Video files: write frames, read them back. One decode serves every metric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a clip before its frames: from the header, checked against the frames when they are read."""

    path: Path
    num_frames: int | None
    """None where the container has no count (Matroska often has none)."""
    height: int
    width: int
    fps: float
    codec: str
