"""A folder of real videos as the reference of FVD."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stg_eval.datasets.dataset import Reference
from stg_eval.storage.video import find_videos


def folder_reference(folder: Path) -> Reference:
    """All videos of the folder, by name; the digest covers their bytes. Raises StgEvalError where there are none."""
    videos = find_videos(folder)
    digest = hashlib.sha256()
    for path in videos:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Reference(f"{folder.name}|{len(videos)}", digest.hexdigest(), videos, len(videos))
