"""Whether an MP4, MOV or 3GP goes on to its own end: ISO/IEC 14496-12's boxes."""

from __future__ import annotations

import re
import struct

from stg_eval.storage.video.parts import Broken, Ending, Part

BOX_NAME = re.compile(rb"[ -~\xa9]{0,4}", re.DOTALL)


def walk_boxes(file: Part) -> Ending:
    """MP4, MOV, 3GP: boxes. The header counts the frames; those in fragments are counted nowhere, but there may be an
    index of what follows (sidx), or of what was (mfra) at the very end."""
    kinds: list[bytes] = []
    seconds: float | None = None
    indexed, fragmented = 0, False
    while file.left:
        kind, length = _box(file, file.at)
        if not length:
            break  # padding, or what an editor added behind the last box
        if kind == b"sidx":
            indexed = max(indexed, _indexed_until(file.look(min(length, 1 << 20)), file.at + length))
        elif kind == b"moov" and b"mvex" in file.look(min(length, file.left, 1 << 26)):  # or by chance
            inner = _boxes_within(file, file.at, length)
            fragmented = b"mvex" in inner
            seconds = _fragments_seconds(file, inner)
        file.skip(length, f"box '{kind.decode('latin-1')}'")
        kinds.append(kind)
    if not fragmented and b"moof" not in kinds:
        return Ending(shown=True)
    if indexed > file.size:
        raise Broken(f"cut: its index counts {indexed - file.size:,} bytes behind its end")
    whole_index = kinds.count(b"sidx") == 1 and kinds.count(b"moof") > 1 and indexed == file.size
    shown = fragmented and (kinds[-1] == b"mfra" or whole_index)
    return Ending(shown, counted=False, seconds=seconds)


def _box(file: Part, at: int) -> tuple[bytes, int]:
    """Return kind and length of the box that begins there; length 0 for what is none. Raises Broken."""
    head = file.look_at(at, 16)
    kind, length = head[4:8], int.from_bytes(head[:4], "big")
    if not any(head[:8]) or not BOX_NAME.fullmatch(kind):
        return kind, 0
    if len(head) < 8:
        raise Broken("cut: it ends within the head of a box")
    if length == 1:
        length = int.from_bytes(head[8:], "big")
    elif length == 0:
        length = file.size - at
    return kind, length if length >= 8 else 0


def _boxes_within(file: Part, at: int, length: int) -> dict[bytes, tuple[int, int]]:
    """Map kind -> place and length of the boxes in one."""
    found, end = {}, min(at + length, file.size)
    at += 8
    while at + 8 <= end:
        kind, length = _box(file, at)
        if not length:
            break
        found[kind] = at, length
        at += length
    return found


def _fragments_seconds(file: Part, moov: dict[bytes, tuple[int, int]]) -> float | None:
    """Return duration of all fragments (mvex/mehd), where the header has it."""
    mehd = _boxes_within(file, *moov[b"mvex"]).get(b"mehd") if b"mvex" in moov else None
    if mehd is None or b"mvhd" not in moov:
        return None
    header, extension = file.look_at(moov[b"mvhd"][0], 32), file.look_at(mehd[0], 20)
    if len(header) < 32 or len(extension) < 16:
        return None
    scale = int.from_bytes(header[28:32] if header[8] else header[20:24], "big")
    duration = int.from_bytes(extension[12:20] if extension[8] else extension[12:16], "big")
    return duration / scale if scale and duration else None


def _indexed_until(box: bytes, anchor: int) -> int:
    """Say where the last part of the file ends that a sidx box counts; 0 for a damaged one."""
    try:
        first, at = (struct.unpack_from(">Q", box, 28)[0], 36) if box[8] else (struct.unpack_from(">I", box, 24)[0], 28)
        count = struct.unpack_from(">H", box, at + 2)[0]
        sizes = (struct.unpack_from(">I", box, at + 4 + 12 * i)[0] & 0x7FFFFFFF for i in range(count))
        return int(anchor + first + sum(sizes))
    except (struct.error, IndexError):
        return 0
