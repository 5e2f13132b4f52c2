"""What a dataset is: cases to show, and for FVD real clips to compare with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from stg_eval.types import Case

T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """Real clips, the other side of a Fréchet distance."""

    name: str
    """Which clips, in one line, e.g. ``ucf101|all|2048``."""
    digest: str
    """SHA-256 over the clips' contents, in order: the key under which their features are cached."""
    clips: Sequence[Path] | Callable[[int, int], np.ndarray[Any, Any]]
    """Video files, or a function (start, stop) -> uint8 [stop - start, T, H, W, 3] for clips that are drawn."""
    count: int


class Dataset(Protocol):
    """Cases in a fixed order of which every prefix is a stratified sample of the whole. The smallest is
    `stg_eval.datasets.demo100.Demo100`."""

    missing: str | None
    """Why it cannot be read yet and what to do, in one line; None when the data is there. Opening never raises, so a
    plan can count clips before the data is fetched; `cases` and `reference` raise StgEvalError with this line."""

    def cases(self, dry: bool = False) -> Iterator[Case]:
        """Return the cases, lazily: the first N cost no more than N. `dry` is for plans: no image is extracted or
        decoded, and one that never was has a made-up digest, so that its clips count as clips to make."""
        ...

    def reference(self) -> Reference | None:
        """Return the real clips, or None where the dataset has none."""
        ...


def stratified(items: Iterable[T], stratum: Callable[[T], Hashable], name: Callable[[T], str] | None = None) -> list[T]:
    """Interleave strata in proportion to their sizes, so that every prefix holds each stratum's share (within one).

    With `name`, the order inside a stratum is a shuffle by SHA-256 of the name: the same on every machine, and an item
    keeps its place among its stratum's when others come or go. Without, items keep their own order.
    """
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(stratum(item), []).append(item)
    placed = []
    for number, group in enumerate(groups.values()):
        if name is not None:
            group.sort(key=lambda item: hashlib.sha256(name(item).encode()).digest())
        placed += [((rank + 0.5) / len(group), number, rank, item) for rank, item in enumerate(group)]
    return [item for *_, item in sorted(placed, key=lambda place: place[:3])]
