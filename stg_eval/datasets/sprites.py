"""Sprites: procedural labelled clips, 3 shapes x 4 motions = 12 classes. The data behind the embedded model.

Every clip is a pure function of its index: splitmix64 hashes of (index, k) give colours, size, speed and path. Shapes
are signed distance fields over a colour gradient, drawn anti-aliased at any size and frame count; they are two-toned so
that a spinning ring shows. Class = index modulo 12, so consecutive indices are balanced. Training, validation and
reference clips come from disjoint index ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stg_eval.types import Case

SHAPES = ("square", "triangle", "ring")
MOTIONS = ("slide", "orbit", "pulse", "spin")
CLASS_NAMES = tuple(f"{shape}-{motion}" for shape in SHAPES for motion in MOTIONS)
"""The name of class i stands at position i."""

TRAIN_FIRST = 0
"""Training draws indices from here up to VALIDATION_FIRST."""
VALIDATION_FIRST = 1 << 40
"""Held-out clips for choices made while developing (classifier accuracy, guidance layer and scale)."""
REFERENCE_FIRST = 1 << 41
"""Held-out clips that reports use as the real set; nothing was trained or chosen on them."""

Floats = NDArray[Any]
"""float32 throughout; the shapes say the rest."""


def label(index: int) -> int:
    """Return class of clip `index`, 0 <= label < 12: its name is ``CLASS_NAMES[label]``."""
    return index % len(CLASS_NAMES)


def cases() -> Iterator[Case]:
    """Yield the 12 classes as cases for a class-conditional model, e.g. id "square-slide", prompt "a square that
    slides"."""
    for i, name in enumerate(CLASS_NAMES):
        shape, motion = name.split("-")
        yield Case(id=name, prompt=f"a {shape} that {motion}s", label=i, tags=(shape, motion))


def reference(
    n: int, *, first_index: int = REFERENCE_FIRST, num_frames: int = 8, height: int = 16, width: int = 16
) -> NDArray[np.uint8]:
    """Return `n` held-out real clips with balanced classes, uint8 [n, num_frames, height, width, 3]."""
    return clips(range(first_index, first_index + n), num_frames=num_frames, height=height, width=width)


def clips(
    indices: Sequence[int] | NDArray[np.int64], *, num_frames: int = 8, height: int = 16, width: int = 16
) -> NDArray[np.uint8]:
    """Draw the clips of `indices` (each >= 0): uint8 [len(indices), num_frames, height, width, 3], RGB.

    Speeds are fractions of the frame a clip, so more frames sample the same motion more finely.
    """
    index = np.asarray(indices, dtype=np.uint64)
    classes = (index % np.uint64(len(CLASS_NAMES))).astype(np.int64)
    shape, motion = classes // len(MOTIONS), classes % len(MOTIONS)
    draw = _uniforms(index, 18)
    x, y, radius, angle = _motion(motion, draw, num_frames)

    # Pixel centres in the shape's own coordinates: [N, T, H, W], the frame's shorter side is 1.
    side = min(height, width)
    dx = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / side)[None, None, None, :] - x[..., None, None]
    dy = ((np.arange(height, dtype=np.float32) + 0.5 - height / 2) / side)[None, None, :, None] - y[..., None, None]
    cos, sin = np.cos(angle)[..., None, None], np.sin(angle)[..., None, None]
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    inside = _cover(_distance(shape, u, v, radius[..., None, None]), side)[..., None]
    first = _cover(u, side)[..., None]  # the half with u < 0 has the first tone

    near, far, tone, other = _colours(draw[:, 8:16])
    ramp = _gradient(draw[:, 16], height, width)[..., None]
    background = near[:, None, None] * (1 - ramp) + far[:, None, None] * ramp
    sprite = other[:, None, None, None] + first * (tone - other)[:, None, None, None]
    frames: Floats = background[:, None] * (1 - inside) + sprite * inside
    drawn: NDArray[np.uint8] = np.rint(frames * 255).astype(np.uint8)
    return drawn


def _motion(motion: NDArray[np.int64], draw: Floats, num_frames: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return centre x, y (0 is the middle), radius and angle of each frame, float32 [N, num_frames] each."""
    time = np.arange(num_frames, dtype=np.float32)[None] / num_frames
    p = draw[:, :8, None]
    turn = np.float32(2 * np.pi)
    way = np.sign(p[:, 7] - np.float32(0.5))  # clockwise or not
    slide, orbit, pulse, spin = (np.equal(motion, i)[:, None] for i in range(4))

    size = 0.17 + 0.09 * p[:, 0]
    room = 0.5 - size  # the centre stays this close to the middle, so that the shape stays in the frame
    x, y = (2 * p[:, 1] - 1) * room, (2 * p[:, 2] - 1) * room

    heading, distance = turn * p[:, 3], 0.9 + 0.7 * p[:, 4]
    sliding_x = _bounce(x + np.cos(heading) * distance * time, room)
    sliding_y = _bounce(y + np.sin(heading) * distance * time, room)

    arc = 0.16 + (room - 0.16) * p[:, 5]
    around = turn * p[:, 3] + way * turn * (0.75 + 0.5 * p[:, 4]) * time
    middle_x, middle_y = (2 * p[:, 1] - 1) * (room - arc), (2 * p[:, 2] - 1) * (room - arc)

    beat = np.sin(turn * (p[:, 3] + (1.0 + 0.6 * p[:, 4]) * time))
    tilt = (p[:, 6] - 0.5) * 0.9
    return (
        np.where(slide, sliding_x, np.where(orbit, middle_x + arc * np.cos(around), x)),
        np.where(slide, sliding_y, np.where(orbit, middle_y + arc * np.sin(around), y)),
        np.where(pulse, size * (0.78 + 0.42 * beat), size * (1 + np.float32(0.1) * spin)) + 0 * time,
        np.where(spin, turn * p[:, 6] + way * turn * (0.55 + 0.4 * p[:, 4]) * time, tilt + 0 * time),
    )


def _bounce(position: Floats, room: Floats) -> Floats:
    """Reflect a straight path at the walls -room and room."""
    reflected: Floats = np.abs((position - room) % (4 * room) - 2 * room) - room
    return reflected


def _distance(shape: NDArray[np.int64], u: Floats, v: Floats, radius: Floats) -> Floats:
    """Return signed distance to the shape's edge, negative inside, [N, T, H, W]."""
    square = np.maximum(np.abs(u), np.abs(v)) - 0.86 * radius
    triangle = np.maximum(v, np.abs(u) * np.float32(np.sqrt(3) / 2) - v / 2) - 0.62 * radius
    ring = np.abs(np.sqrt(u * u + v * v) - 0.76 * radius) - 0.27 * radius
    kind = shape[:, None, None, None]
    return np.where(kind == 0, square, np.where(kind == 1, triangle, ring))


def _cover(distance: Floats, side: int) -> Floats:
    """Return share of a pixel on the negative side of an edge: a ramp one pixel wide."""
    return np.clip(0.5 - distance * side, 0, 1)


def _gradient(draw: Floats, height: int, width: int) -> Floats:
    """Return linear ramp in a random direction, 0 to 1 over the frame: [N, H, W]."""
    angle = (2 * np.float32(np.pi) * draw)[:, None, None]
    gx = (np.arange(width, dtype=np.float32) + 0.5)[None, None, :] / width - 0.5
    gy = (np.arange(height, dtype=np.float32) + 0.5)[None, :, None] / height - 0.5
    return 0.5 + (gx * np.cos(angle) + gy * np.sin(angle)) / np.float32(np.sqrt(2))


def _colours(draw: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return two dark colours of the background and two bright ones of the sprite, float32 [N, 3] each, in [0, 1]."""
    return (
        _hsv(draw[:, 0], 0.3 + 0.5 * draw[:, 1], 0.08 + 0.2 * draw[:, 2]),
        _hsv(draw[:, 0] + 0.3 * (draw[:, 3] - 0.5), 0.3 + 0.5 * draw[:, 1], 0.25 + 0.25 * draw[:, 2]),
        _hsv(draw[:, 4], 0.55 + 0.4 * draw[:, 5], 0.85 + 0.15 * draw[:, 6]),
        _hsv(draw[:, 4] + 0.3 + 0.4 * draw[:, 7], 0.5 + 0.4 * draw[:, 5], 0.75 + 0.15 * draw[:, 6]),
    )


def _hsv(hue: Floats, saturation: Floats, value: Floats) -> Floats:
    """HSV (hue in turns) to RGB, float32 [N, 3]."""
    k = (hue[:, None] * 6 + np.array([5, 3, 1], dtype=np.float32)) % 6
    rgb: Floats = value[:, None] * (1 - saturation[:, None] * np.clip(np.minimum(k, 4 - k), 0, 1))
    return rgb


def _uniforms(index: NDArray[np.uint64], count: int) -> Floats:
    """Return `count` independent uniform numbers in [0, 1) for each index, float32 [N, count], by splitmix64."""
    z = _splitmix64(index)[:, None] + np.arange(count, dtype=np.uint64)[None] * _GOLDEN
    return ((_splitmix64(z) >> np.uint64(40)).astype(np.float32)) * np.float32(2.0**-24)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one step of splitmix64 (Steele, Lea and Flood, 2014); uint64 arithmetic wraps."""
    z = state + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
