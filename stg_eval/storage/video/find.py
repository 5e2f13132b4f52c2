"""Which files of a folder are videos."""

from __future__ import annotations

from pathlib import Path

from stg_eval.storage.video.opening import VIDEO_SUFFIXES
from stg_eval.storage.walk import Found, find
from stg_eval.types import StgEvalError


def find_videos(place: Path) -> Found:
    """Return the videos of a folder and its sub-folders, sorted by path, or the one file that `place` is.

    Raises StgEvalError where there are none, and for a name of a video behind which no readable file is.
    """
    if place.is_file():
        return Found([place], "")
    if not place.is_dir():
        raise StgEvalError(f"{place} is not a folder, nor a video")
    found = find(place, VIDEO_SUFFIXES, "a video")
    if not found.files:
        others = f"; there is {found.left_out}" if found.left_out else ""
        raise StgEvalError(f"no videos in {place} (looked for {', '.join(sorted(VIDEO_SUFFIXES))}){others}")
    return found
