"""Whether a video file goes on to its own end: what each container says of its parts' sizes, against the file's size.

A decoder reads a file that was cut as a shorter one. Sources: RFC 8794 and RFC 9559 (EBML, Matroska), the RIFF and
OpenDML AVI files, the GIF89a, ASF, FLV (annex E) and Ogg (RFC 3533) specifications, ISO/IEC 13818-1 (transport and
program streams); for MP4 see `stg_eval.storage.video.boxes`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from stg_eval.storage.video.boxes import walk_boxes
from stg_eval.storage.video.parts import Broken, Ending, Part


def ending(path: Path) -> Ending:
    """Say what the file's structure says of its end; an unknown container says nothing. Raises Broken, OSError."""
    file = os.open(path, os.O_RDONLY)
    try:
        part = Part(file)
        start = part.look(16)
        walk = next((walk for begins, walk in WALKS if begins(start)), _transport_stream)
        return walk(part)
    finally:
        os.close(file)


SEGMENT, CLUSTER, INFO, SCALE, DURATION = 0x18538067, 0x1F43B675, 0x1549A966, 0x2AD7B1, 0x4489
LARGEST_CHECKED = 1 << 28
"""Bytes of a part that is read into memory for its checksum."""


def _ebml(file: Part) -> Ending:
    """Matroska, WebM: elements, of which some hold elements. A live stream's segment and clusters have no size."""
    shown, end, scale, seconds = False, 0, 1_000_000, None
    while file.left:
        zeros = _leading_zeros(file)
        if zeros > 3:  # padding, or a hole
            shown = shown and file.at >= end
            break
        identity = file.number(zeros + 1, "last element")
        size, unknown = _element_size(file)
        if zeros == 3 and identity != SEGMENT and 6 < size <= min(file.left, LARGEST_CHECKED):
            _check_crc(file, size)
        if identity in (SEGMENT, CLUSTER, INFO):  # their content comes next
            if not unknown and size > file.left:
                file.skip(size, "segment" if identity == SEGMENT else "last cluster")
            if identity == SEGMENT:
                shown, end = not unknown, file.at + size
        elif identity == SCALE and size <= 8:
            scale = file.number(size, "header")
        elif identity == DURATION and size in (4, 8):
            seconds = struct.unpack(">f" if size == 4 else ">d", file.take(size, "header"))[0]
        else:
            file.skip(size, "last element")
    return Ending(shown, seconds=seconds and seconds * scale / 1e9)


def _check_crc(file: Part, size: int) -> None:
    """The first thing in an element may be the CRC-32 of all that follows in it. Raises Broken."""
    if file.look(2) == b"\xbf\x84":
        data = memoryview(file.look(size))
        if zlib.crc32(data[6:]) != int.from_bytes(data[2:6], "little"):
            raise Broken("damaged: the checksum of a part does not match")


def _leading_zeros(file: Part) -> int:
    return 8 - (file.look(1) or b"\x80")[0].bit_length()


def _element_size(file: Part) -> tuple[int, bool]:
    """Return size of an element's content, and whether it stands for one that is not known."""
    length = min(_leading_zeros(file) + 1, 8)
    mask = (1 << 7 * length) - 1
    size = file.number(length, "last element") & mask
    return size, size == mask


def _riff(file: Part) -> Ending:
    """AVI: one RIFF part or several, of chunks. One that was written into a pipe has no sizes, and no count either."""
    shown = counted = True
    while file.left >= 12 and file.look(4) == b"RIFF":
        length = int.from_bytes(file.look(8)[4:], "little")
        sized = length not in (0, 0xFFFFFFFF)
        end = file.at + 8 + length if sized else file.size
        if end > file.size:
            file.skip(8 + length, "RIFF part")
        last = _last_chunk(file, end, enter_lists=not sized)
        shown &= bool(last) if sized else last == b"idx1"
        counted &= sized
        file.at = end + end % 2
    return Ending(shown, counted)


def _last_chunk(file: Part, end: int, *, enter_lists: bool) -> bytes:
    """Name of the last chunk of a RIFF part; empty where zeros stand in the place of one."""
    kind = b""
    file.at += 12
    while file.at + 8 <= end:
        head = file.look(8)
        if not any(head):
            return b""
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        file.skip(
            12 if enter_lists and kind == b"LIST" else 8 + length + length % 2 * (file.at + 8 + length < end),
            "last chunk",
        )
    return kind


def _gif(file: Part) -> Ending:
    """GIF: a header, blocks, and a byte that ends them."""
    file.skip(10, "header")
    flags = file.take(3, "header")[0]
    file.skip(3 << (flags & 7) + 1 if flags & 0x80 else 0, "palette")
    while (kind := file.number(1, "last image")) != 0x3B:
        if kind == 0x2C:
            flags = file.take(9, "last image")[8]
            file.skip(3 << (flags & 7) + 1 if flags & 0x80 else 0, "last image")
        elif kind != 0x21:
            return Ending()
        file.skip(1, "last image")  # kind of an extension, or size of an image's codes
        while length := file.number(1, "last image"):
            file.skip(length, "last image")
    return Ending(shown=True)


ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _asf(file: Part) -> Ending:
    """WMV, ASF: objects. A broadcast has no sizes, only packets of one size."""
    header = file.look(1 << 16)
    properties = header[header.find(ASF_FILE) :][:96] if ASF_FILE in header else b""
    broadcast = len(properties) == 96 and bool(properties[88] & 1)
    packet = int.from_bytes(properties[92:], "little")
    seconds, shown = None if broadcast else _asf_seconds(properties), False
    if not broadcast and (over := int.from_bytes(properties[40:48], "little") - file.size) > 0:
        raise Broken(f"cut: it says that it has {over:,} bytes more")
    while file.left >= 24:
        head = file.look(24)
        length = int.from_bytes(head[16:], "little")
        if head[:16] == ASF_DATA and broadcast:
            file.skip(50, "header")
            if packet and file.left % packet:
                raise Broken("cut: it ends within a packet")
            return Ending()
        if length < 24:
            break
        start = file.at
        file.skip(length, "data" if head[:16] == ASF_DATA else "header")
        if head[:16] == ASF_DATA and packet:
            shown = all(file.look_at(at, 1) != b"\0" for at in range(start + 50, file.at - packet + 1, packet))
    return Ending(shown, seconds=seconds)


def _asf_seconds(properties: bytes) -> float | None:
    ticks, preroll = int.from_bytes(properties[64:72], "little"), int.from_bytes(properties[80:88], "little")
    return ticks / 1e7 - preroll / 1e3 or None


def _flv(file: Part) -> Ending:
    """FLV: tags. The header may know the file's size or duration, and H.264 has a tag that ends it."""
    file.skip(int.from_bytes(file.look(9)[5:], "big"), "header")
    file.skip(4, "header")
    said = {name: _amf_number(file.look(4096), name) for name in (b"duration", b"filesize")}
    ended = False
    while file.left:
        head = file.look(13)
        if head[:1] == b"\0":  # padding, or a hole
            return Ending(ended, seconds=said[b"duration"] or None)
        file.skip(11, "last tag")
        file.skip(int.from_bytes(head[1:4], "big") + 4, "last tag")
        if head[0] & 0x1F == 9:
            ended = head[11] & 15 == 7 and head[12] == 2
    size = said[b"filesize"] or 0
    if size > file.size:
        raise Broken(f"cut: it says that it has {size - file.size:,.0f} bytes more")
    return Ending(ended or size == file.size, seconds=said[b"duration"] or None)


def _amf_number(data: bytes, name: bytes) -> float | None:
    at = data.find(name + b"\0")
    return struct.unpack_from(">d", data, at + len(name) + 1)[0] if 0 <= at <= len(data) - len(name) - 9 else None


def _ogg(file: Part) -> Ending:
    """Ogg: pages; the last one of each stream says so."""
    streams: dict[bytes, bool] = {}
    while file.left:
        head = file.look(27)
        if len(head) < 27 or head[:4] != b"OggS":
            if b"OggS".startswith(head[:4]):
                raise Broken("cut: it ends within the head of a page")
            break
        file.skip(27, "last page")
        file.skip(sum(file.take(head[26], "last page")), "last page")
        streams[head[14:18]] = bool(head[5] & 4)
    return Ending(bool(streams) and all(streams.values()))


def _program_stream(file: Part) -> Ending:
    """MPEG program stream: packs of packets, and a code that ends them, which most leave out."""
    while file.left:
        head = file.look(14)
        if not any(head):
            break  # padding
        if len(head) < 4 or head[:3] != b"\0\0\1":
            if b"\0\0\1".startswith(head[:3]):
                raise Broken("cut: it ends within the head of a packet")
            break
        if head[3] == 0xB9:
            return Ending(shown=True)
        if head[3] == 0xBA:
            second = len(head) > 4 and head[4] >> 6 == 1
            file.skip(14 + (head[13] & 7 if len(head) > 13 else 0) if second else 12, "last pack")
        else:
            file.skip(4, "last packet")
            file.skip(file.number(2, "last packet"), "last packet")
    return Ending()


def _transport_stream(file: Part) -> Ending:
    """MPEG transport stream: packets of one size with 0x47 in them, at the start or behind a time stamp (192 bytes)."""
    start = file.look(204 * 8)
    for size, sync in ((188, 0), (192, 4), (204, 0)):
        for first in range(size):
            if len(start) > first + 3 * size and set(start[first::size]) == {0x47}:
                if over := (file.size - first + sync) % size:
                    raise Broken(f"cut: its last packet has {over} of {size} bytes")
                return Ending()
    return Ending()


BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"sidx", b"uuid")
WALKS: tuple[tuple[Callable[[bytes], bool], Callable[[Part], Ending]], ...] = (
    (lambda start: start[4:8] in BOXES, walk_boxes),
    (lambda start: start.startswith(b"\x1a\x45\xdf\xa3"), _ebml),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"AVI ", _riff),
    (lambda start: start.startswith((b"GIF87a", b"GIF89a")), _gif),
    (lambda start: start.startswith(ASF_HEADER), _asf),
    (lambda start: start.startswith(b"FLV"), _flv),
    (lambda start: start.startswith(b"OggS"), _ogg),
    (lambda start: start.startswith(b"\0\0\1\xba"), _program_stream),
)
