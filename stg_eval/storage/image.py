"""First frames: one reader for every image, as 8-bit RGB the way a viewer shows it.

An image is turned upright as its EXIF says, 16 bits become the 8 upper ones, and what is transparent lies on white.
Palettes, grey and CMYK are converted as Pillow does it, without colour profiles. Animations, several pages, and 32 bits
or floating point a channel have no one right picture and are refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stg_eval.types import StgEvalError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""


@dataclass(frozen=True)
class Picture:
    """An image that was read."""

    pixels: Image
    """Mode RGB."""
    changes: tuple[str, ...]
    """What was done to show it as it is meant: none for an upright, opaque image of 8 bits a channel."""


def read_image(path: Path) -> Picture:
    """Decode an image. Raises StgEvalError for a file that is no image, is cut, or is of a kind that is refused."""
    from PIL import Image, ImageFile

    # other libraries in this process turn it on, and then half an image is one with a grey rest
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(path) as image:
            pictures = getattr(image, "n_frames", 1)
            if pictures > 1 and image.format != "MPO":  # phones put other views behind the picture
                raise StgEvalError(f"it holds {pictures} pictures; save the one that is meant")
            image.load()
            return _shown(image)
    except Exception as error:  # Pillow's plug-ins raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.errno:
            raise StgEvalError(f"the image {path} cannot be read ({error.strerror})") from error
        reason = " ".join(str(error).split()).replace(repr(str(path)), "it") or type(error).__name__
        raise StgEvalError(f"{path} does not decode as an image ({reason}); replace or remove it") from error


def image_digest(path: Path) -> str:
    """Say what identifies a first frame, 64 hex digits: SHA-256 of the file, or, where `read_image` changed what the
    file's bytes say, of the shape and pixels that it made. Raises StgEvalError as `read_image` does."""
    import numpy as np

    picture = read_image(path)
    if not picture.changes:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    pixels = np.asarray(picture.pixels)
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _shown(image: Image) -> Picture:
    import numpy as np
    from PIL import Image, ImageOps

    changes = []
    if image.getexif().get(ORIENTATION, 1) in range(2, 9):
        image = ImageOps.exif_transpose(image)
        changes.append("turned upright")
    if image.mode in ("I", "F"):
        raise StgEvalError("it has 32 bits a channel; save it with 8 or 16")
    if image.mode.startswith("I;16"):
        image = _upper_bits(image)
        changes.append("brought from 16 to 8 bit")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            changes.append("laid on white")
    return Picture(image.convert("RGB"), tuple(changes))


def _upper_bits(image: Image) -> Image:
    """Return a grey image of 16 bits as one of 8. Colour of 16 bits is read so by Pillow."""
    import numpy as np
    from PIL import Image

    if "transparency" in image.info:
        raise StgEvalError("it has 16 bits and a transparent grey; save it with 8 bits")
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
