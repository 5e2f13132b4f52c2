"""Open-Sora 1.2's sizes: clips, latents, and how far a clip's size shifts the noise schedule. Imports no torch."""

from __future__ import annotations

import math

from stg_eval.types import StgEvalError

FPS_OF_IMAGES = 120.0
"""The frame rate that the model is told for a single frame."""

_RATIOS = "3:8 9:21 12:25 1:2 9:17 27:50 9:16 5:8 2:3 3:4 1:1 4:3 3:2 16:9 17:9 2:1 50:27"

ASPECT_RATIOS = tuple(_RATIOS.split(" "))
"""Height : width, so 9:16 is landscape."""

_SIZES = {
    "144p": "117x312 125x291 133x277 135x270 139x262 141x260 144x256 151x241 156x234 166x221 192x192 "
    "221x165 235x156 256x144 263x139 271x135 277x132",
    "240p": "196x522 210x490 222x462 226x452 232x438 236x436 240x426 252x404 262x393 276x368 320x320 "
    "370x278 392x262 426x240 440x232 452x226 462x222",
    "360p": "294x784 314x732 332x692 340x680 350x662 352x652 360x640 380x608 392x588 416x554 480x480 "
    "554x416 588x392 640x360 660x350 678x340 692x332",
    "480p": "392x1046 420x980 444x925 452x904 466x880 470x870 480x854 506x810 522x784 554x738 640x640 "
    "740x555 784x522 854x480 880x466 906x454 924x444",
    "720p": "588x1568 628x1466 666x1388 678x1356 698x1318 706x1306 720x1280 758x1212 784x1176 832x1110 960x960 "
    "1108x832 1176x784 1280x720 1320x698 1358x680 1386x666",
    "1080p": "882x2352 942x2198 998x2080 1018x2036 1048x1980 1058x1958 1080x1920 1138x1820 1176x1764 1248x1664 "
    "1440x1440 1662x1246 1764x1176 1920x1080 1980x1048 2036x1018 2078x998",
}
"""Heights x widths the model was trained on, in the order of ASPECT_RATIOS."""

_SQUARES = {"256": 256, "512": 512, "1024": 1024}


def image_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Return (height, width) of a trained size, e.g. ("240p", "9:16") -> (240, 426). Raises StgEvalError for others."""
    if resolution in _SQUARES and aspect_ratio == "1:1":
        return _SQUARES[resolution], _SQUARES[resolution]
    if resolution not in _SIZES or aspect_ratio not in ASPECT_RATIOS:
        raise StgEvalError(
            f"Open-Sora 1.2 has no size {resolution} {aspect_ratio}: choose {', '.join(_SIZES)} with "
            f"{', '.join(ASPECT_RATIOS)} (height:width), or {', '.join(_SQUARES)} with 1:1"
        )
    height, width = _SIZES[resolution].split()[ASPECT_RATIOS.index(aspect_ratio)].split("x")
    return int(height), int(width)


def latent_size(num_frames: int, height: int, width: int) -> tuple[int, int, int]:
    """Return (frames, height, width) of a clip's latents: chunks of 17 frames give 5 each, a rest of n gives ceil(n /
    4); sides are divided by 8 and rounded down, so 240x426 gives 30x53 and decodes to 240x424."""
    chunks, rest = divmod(num_frames, 17)
    return 5 * chunks + math.ceil(rest / 4), height // 8, width // 8


def timestep_shift(num_frames: int, height: int, width: int) -> float:
    """Say how much later than linear the noise falls: timestep s becomes r s / (1 + (r - 1) s), r the value returned.

    r = sqrt(height width / 512^2) sqrt(num_frames // 17 * 5), without the second factor for one frame (upstream
    `timestep_transform`). Raises StgEvalError for 2 to 16 frames, where the published formula is 0 and the first
    timestep not a number.
    """
    if num_frames != 1 and num_frames < 17:
        raise StgEvalError(
            f"Open-Sora 1.2 cannot make {num_frames} frames: its noise schedule is undefined from 2 to 16; "
            "set num_frames to 1, or to 17 or more (published lengths: 51, 102, 204, 408)"
        )
    return math.sqrt(height * width / 512**2) * (1.0 if num_frames == 1 else math.sqrt(num_frames // 17 * 5))
