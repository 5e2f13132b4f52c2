"""Decoded frames -> uint8 RGB, upright: one conversion for every clip, said in a note where it is more than a change of
colour space.

8-bit frames go to RGB by libswscale, bit for bit as in OpenCV and decord. Deeper ones go to 8 bits in their own layout
first, so that they are read as their 8-bit re-encoding would be: tools that go to RGB at once scale the colours in ways
of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from stg_eval.storage.video.info import UnreadableVideo


class Conversion:
    """What is done to every frame of a clip, made from its first. Raises UnreadableVideo."""

    def __init__(self, path: Path, frame: Any) -> None:
        self.notes: list[str] = []
        self._size = frame.height, frame.width
        self._to_rgb, self._to_8_bits = VideoReformatter(), VideoReformatter()
        bits = max((component.bits for component in frame.format.components), default=8)
        self._shallow = _shallow_format(frame.format.name) if bits > 8 else None
        if bits > 8:
            self.notes.append(f"{bits} to 8 bits a channel")
        self._turn, name = _turn(path, frame)
        if self._turn:
            self.notes.append(f"{name}, as its header says")
        if any(component.is_alpha for component in frame.format.components) and _is_transparent(frame):
            self.notes.append("transparency left out")
        self.height, self.width = self._turn(np.empty((*self._size, 1))).shape[:2] if self._turn else self._size

    def __call__(self, frame: Any, out: np.ndarray) -> None:
        """Write a frame to `out`, uint8 [height, width, 3]."""
        if self._shallow:
            frame = self._to_8_bits.reformat(frame, format=self._shallow, threads=1)
        plane: Any = self._to_rgb.reformat(frame, format="rgb24", threads=1).planes[0]
        height, width = self._size
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        pixels = rows[:, : width * 3].reshape(height, width, 3)
        out[:] = self._turn(pixels) if self._turn else pixels


def _shallow_format(name: str) -> str | None:
    """Return the 8-bit pixel format of the same layout, e.g. yuv420p for yuv420p10le; None where RGB is the next
    step."""
    found = re.fullmatch(r"(yuva?4\d\dp|gbra?p|gray)\d\d?[lb]e", name)
    return found[1] if found else {"p010le": "nv12", "p012le": "nv12", "p016le": "nv12"}.get(name)


def _turn(path: Path, frame: Any) -> tuple[Callable[[np.ndarray], np.ndarray] | None, str]:
    """Say how pixels [H, W, C] become upright by the header's display matrix, in words too; None where they are."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return None, ""
    a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5] / 65536  # (x, y) -> (a x + c y, b x + d y)
    if np.isclose(a, 0, atol=0.01) and np.isclose(d, 0, atol=0.01) and b * c:
        name = "turned by 90 degrees" if b * c < 0 else "mirrored and turned by 90 degrees"
        return lambda pixels: pixels.swapaxes(0, 1)[:: _sign(b), :: _sign(c)], name
    if not (np.isclose(b, 0, atol=0.01) and np.isclose(c, 0, atol=0.01)):
        raise UnreadableVideo(path, f"rotated by {frame.rotation} degrees in the header: not a quarter; re-encode it")
    if a * d == 0 or (a > 0 and d > 0):
        return None, ""
    name = "turned by 180 degrees" if a < 0 and d < 0 else "mirrored"
    return lambda pixels: pixels[:: _sign(d), :: _sign(a)], name


def _sign(number: float) -> int:
    return 1 if number > 0 else -1


def _is_transparent(frame: Any) -> bool:
    return bool(frame.to_ndarray(format="rgba")[..., 3].min() < 255)
