"""What a file's structure says of its end: each container's own rules, on bytes made here, and on any bytes at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stg_eval.storage.video.ends import ASF_DATA, ASF_HEADER, ending
from stg_eval.storage.video.parts import Broken, Ending

EBML = bytes.fromhex("1a45dfa380")
STARTS = (
    *(b"\0\0\0\x10ftypisom\0\0\0\0", b"\0\0\0\x10moov\0\0\0\x08mvex", b"\0\0\0\x08moof", b"\0\0\0\x20sidx\1"),
    *(EBML, EBML + bytes.fromhex("1853806701ffffffffffffff1549a966ff4489"), EBML + bytes.fromhex("185380672ad7b1")),
    *(b"RIFF\0\1\0\0AVI LIST", b"RIFF\xff\xff\xff\xffAVI LIST", b"GIF89a\0\0\0\0\0\0\0"),
    *(ASF_HEADER, ASF_HEADER + struct.pack("<Q", 30) + bytes(6) + ASF_DATA, b"FLV\1\5\0\0\0\x09\0\0\0\0\x12"),
    *(b"OggS\0\4" + bytes(20) + b"\2", b"\0\0\1\xba\x44", b"\x47" + bytes(187), b"\0" * 4 + b"\x47"),
)


def end_of(folder: Path, data: bytes) -> Ending:
    path = folder / "file"
    path.write_bytes(data)
    return ending(path)


@settings(max_examples=600, deadline=None)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=200), repeat=st.integers(1, 9))
@example(start=b"\0\0\0\x10ftypisom\0\0\0\0", rest=b"\0\0\0\x08n\xa9h?", repeat=1)
@example(start=EBML, rest=bytes.fromhex("2ad7b101fffffffffffffe"), repeat=1)
@example(start=b"", rest=b"", repeat=1)
def test_any_bytes_have_an_end_or_are_cut(tmp_path_factory, start, rest, repeat):
    try:
        found: str | float | None = end_of(tmp_path_factory.getbasetemp(), start + rest * repeat).seconds
    except Broken as broken:
        found = str(broken)
    assert found is None or isinstance(found, float) or found.isprintable()


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


FTYP, MOOV, MDAT = box(b"ftyp", b"isom0000"), box(b"moov", box(b"mvhd", bytes(100))), box(b"mdat", b"x" * 50)
FRAGMENTED = box(b"moov", box(b"mvhd", bytes(12) + struct.pack(">II", 1000, 0)) + box(b"mvex", box(b"trex", bytes(24))))
MOOF = box(b"moof", bytes(16))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (FTYP + MOOV + MDAT, Ending(True)),
        (FTYP + MDAT + MOOV, Ending(True)),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 66) + b"x" * 50 + MOOV, Ending(True)),
        (FTYP + MOOV + struct.pack(">I4s", 0, b"mdat") + b"x" * 50, Ending(True)),
        (FTYP + MOOV + MDAT + bytes(100), Ending(True)),
        (FTYP + FRAGMENTED + MDAT, Ending(False, counted=False)),
        (FTYP + FRAGMENTED + MOOF + MDAT, Ending(False, counted=False)),
        (FTYP + FRAGMENTED + MOOF + MDAT + box(b"mfra", bytes(8)), Ending(True, counted=False)),
    ],
)
def test_boxes_show_their_end(tmp_path, data, expected):
    assert end_of(tmp_path, data) == expected


@pytest.mark.parametrize("less", [1, 5, 30, 54, 58])
def test_a_box_that_goes_on_behind_the_end_is_cut(tmp_path, less):
    data = FTYP + MOOV + MDAT
    if less == len(MDAT):
        assert end_of(tmp_path, data[:-less]) == Ending(True), "the header counts the frames that are missing"
    else:
        with pytest.raises(Broken):
            end_of(tmp_path, data[:-less])


def test_fragments_may_say_how_long_they_are(tmp_path):
    extends = box(b"mvex", box(b"mehd", struct.pack(">II", 0, 4500)))
    moov = box(b"moov", box(b"mvhd", bytes(12) + struct.pack(">I", 1000) + bytes(80)) + extends)
    assert end_of(tmp_path, FTYP + moov + MOOF + MDAT) == Ending(False, counted=False, seconds=4.5)


def test_a_live_matroska_may_say_how_long_it_is(tmp_path):
    unknown = bytes.fromhex("1853806701ffffffffffffff")
    info = bytes.fromhex("1549a966 92 2ad7b1 83 0f4240 4489 88") + struct.pack(">d", 4500.0)
    cluster = bytes.fromhex("1f43b67501ffffffffffffff e78100 a384") + b"abcd"
    assert end_of(tmp_path, EBML + unknown + info + cluster * 2) == Ending(False, seconds=4.5)
    with pytest.raises(Broken, match="last element goes on for 1 bytes behind its end"):
        end_of(tmp_path, (EBML + unknown + info + cluster * 2)[:-1])


def test_a_part_that_is_not_what_its_checksum_says_is_damaged(tmp_path, noise, encode_with):
    path = encode_with(tmp_path / "clip.mkv", noise(), "ffv1", "yuv420p")
    data = bytearray(path.read_bytes())
    assert ending(path).shown
    data[len(data) // 2] ^= 1
    with pytest.raises(Broken, match="damaged: the checksum of a part does not match"):
        end_of(tmp_path, bytes(data))
