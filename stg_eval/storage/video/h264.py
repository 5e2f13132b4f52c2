"""What the first picture of an H.264 stream needs (ITU-T H.264, 7.3.1 and Annex B; ISO/IEC 14496-15 in MP4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

OTHER_PICTURE, FIRST_PARTITION, IDR_PICTURE = 1, 2, 5


def starts_between(packet: Any, header: bytes) -> bool:
    """Whether the first packet's picture is no IDR picture: the stream was taken out of a longer one, and pictures that
    are shown before it may need some that are not there. `header` is the stream's extradata."""
    data = memoryview(packet)
    kinds = _prefixed(data, (header[4] & 3) + 1) if header[:1] == b"\1" and len(header) > 4 else _marked(data)
    return next((kind for kind in kinds if kind in (OTHER_PICTURE, FIRST_PARTITION, IDR_PICTURE)), 0) in (1, 2)


def _prefixed(data: memoryview, size: int) -> Iterator[int]:
    """Kinds of the units that follow their length, as in MP4 and Matroska."""
    at = 0
    while at + size < len(data):
        yield data[at + size] & 31
        at += size + int.from_bytes(data[at : at + size], "big")


def _marked(data: memoryview) -> Iterator[int]:
    """Kinds of the units that follow a start code, as in MPEG-TS."""
    for found in re.finditer(rb"\x00\x00\x01(.)", data, re.DOTALL):
        yield found[1][0] & 31
