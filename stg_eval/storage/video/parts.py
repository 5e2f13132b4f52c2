"""A file as parts with sizes, against its own size: what all containers' walks share."""

from __future__ import annotations

import os
from dataclasses import dataclass

BLOCK = 4096


@dataclass(frozen=True)
class Ending:
    """What the structure of a file says of its end."""

    shown: bool = False
    """The file holds its own end: nothing is missing behind it."""
    counted: bool = True
    """The header's number of frames, if there is one, counts all of the file."""
    seconds: float | None = None
    """How long the header says that the file is, where that is needed to know."""


class Broken(Exception):
    """A part of the file reaches past its end, or is not what its checksum says; the text says which."""


class Part:
    """The file with a place in it; reading past its end means that it was cut."""

    def __init__(self, file: int) -> None:
        self._file, self.size, self.at = file, os.fstat(file).st_size, 0
        self._block, self._block_at = b"", 0

    @property
    def left(self) -> int:
        return self.size - self.at

    def look(self, count: int) -> bytes:
        """Return up to `count` bytes from here, without moving on."""
        return self.look_at(self.at, count)

    def look_at(self, at: int, count: int) -> bytes:
        """Return up to `count` bytes from there. Files are walked in small steps, and so read by blocks."""
        first = at - self._block_at
        if first < 0 or first + count > len(self._block):
            self._block, self._block_at = os.pread(self._file, max(count, BLOCK), at), at
            first = 0
        return self._block[first : first + count]

    def take(self, count: int, what: str) -> bytes:
        start = self.at
        self.skip(count, what)
        return self.look_at(start, count)

    def skip(self, count: int, what: str) -> None:
        if count > self.left:
            raise Broken(f"cut: its {what} goes on for {count - self.left:,} bytes behind its end")
        self.at += count

    def number(self, count: int, what: str) -> int:
        return int.from_bytes(self.take(count, what), "big")
