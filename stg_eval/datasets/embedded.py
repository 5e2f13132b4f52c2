"""The sprites as a dataset: 12 classes to show, and held-out clips for FVD drawn on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stg_eval.datasets import sprites
from stg_eval.datasets.dataset import Reference
from stg_eval.datasets.files import check_options, whole_number
from stg_eval.types import Case

DEFAULTS = {"num_frames": 8, "height": 16, "width": 16}
"""Size of the real clips: that of the embedded model's own."""


class Sprites:
    """Always there: nothing to fetch."""

    missing = None

    def __init__(self, size: Mapping[str, int], reference_clips: int | None) -> None:
        self._size, self._count = size, reference_clips

    def cases(self, dry: bool = False) -> Iterator[Case]:
        return sprites.cases()

    def reference(self) -> Reference | None:
        if self._count is None:
            return None
        shape = "x".join(str(n) for n in self._size.values())
        name = f"sprites|held-out|{shape}|{self._count}"
        # Clips are a pure function of their index, so a few of them and the count stand for all.
        digest = hashlib.sha256(name.encode() + self._draw(0, 48).tobytes()).hexdigest()
        return Reference(name, digest, self._draw, self._count)

    def _draw(self, start: int, stop: int) -> NDArray[np.uint8]:
        return sprites.reference(stop - start, first_index=sprites.REFERENCE_FIRST + start, **self._size)


def open_dataset(name: str, options: Mapping[str, Any], reference_clips: int | None) -> Sprites:
    """Options: num_frames, height, width of the real clips."""
    check_options(name, options, tuple(DEFAULTS))
    return Sprites(DEFAULTS | {key: whole_number(name, key, value) for key, value in options.items()}, reference_clips)
