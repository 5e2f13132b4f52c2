"""The first frame that image-to-video models start from. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stg_eval.progress import note
from stg_eval.storage.image import read_image
from stg_eval.types import Request, StgEvalError


def first_frame(request: Request, fit: str) -> Any:
    """Return the case's image as PIL RGB, brought to the request's size as `fit` says."""
    from PIL import Image, ImageOps

    if fit not in ("stretch", "crop"):
        raise StgEvalError(f"image_fit is stretch or crop, not {fit!r}")
    if not request.case.image:
        raise StgEvalError(f"{request.model} starts from an image, and case {request.case.id!r} has none")
    picture = read_image(Path(request.case.image))
    for change in picture.changes:
        note(f"there are first frames that had to be {change}")
    size = (request.width, request.height)
    return ImageOps.fit(picture.pixels, size, Image.Resampling.LANCZOS) if fit == "crop" else picture.pixels
