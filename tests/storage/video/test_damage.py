"""A cut or damaged video of any container is refused, or its notes say what cannot be known; no other is lost with it.

`STG_EVAL_DAMAGED=1000 pytest -s tests/storage/video/test_damage.py` sweeps more damaged files and prints what became of
them.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest

from stg_eval.storage.video import UnreadableVideo, open_video, read_video

NUM_FRAMES = 24
DAMAGED = int(os.environ.get("STG_EVAL_DAMAGED", "200"))


class Kind(NamedTuple):
    suffix: str
    codec: str
    pix_fmt: str = "yuv420p"
    format: str | None = None
    muxer: str = ""
    """Options of an MP4: movflags."""
    piped: bool = False
    """Written into a pipe: sizes and counts stay open."""
    ends: bool = True
    """Whether the container shows its end; where it does not, the notes of a whole file say so."""
    border: bytes = b""
    """What a part of the file begins with: cuts there are the hardest to notice."""


def _fragments(movflags: str, *, ends: bool = True) -> Kind:
    return Kind(".mp4", "libx264", muxer=movflags, ends=ends, border=b"....moof")


CLUSTER, PACK = rb"\x1f\x43\xb6\x75", rb"\x00\x00\x01\xba"
KINDS = {
    "mp4": Kind(".mp4", "libx264"),
    "mp4, header first": Kind(".mp4", "libx264", muxer="faststart"),
    "mp4, fragments": _fragments("frag_keyframe+empty_moov"),
    "mp4, first fragment in the header": _fragments("frag_keyframe"),
    "mp4, fragments with an index": _fragments("dash+global_sidx+skip_trailer"),
    "mp4, fragments without any": _fragments("frag_keyframe+empty_moov+skip_trailer", ends=False),
    "mov": Kind(".mov", "mjpeg", "yuvj420p"),
    "3gp": Kind(".3gp", "mpeg4"),
    "mkv": Kind(".mkv", "libx264", border=CLUSTER),
    "mkv, live": Kind(".mkv", "ffv1", piped=True, ends=False, border=CLUSTER),
    "webm": Kind(".webm", "libvpx-vp9", border=CLUSTER),
    "avi": Kind(".avi", "mjpeg", "yuvj420p", border=b"00dc"),
    "avi, mpeg4": Kind(".avi", "mpeg4", border=b"00dc"),
    "avi, piped": Kind(".avi", "mjpeg", "yuvj420p", "avi", piped=True, ends=False, border=b"00dc"),
    "gif": Kind(".gif", "gif", "rgb8", border=rb"\x21\xf9"),
    "ts": Kind(".ts", "mpeg2video", ends=False, border=rb"\x47[@A]"),
    "ts, h264": Kind(".ts", "libx264", ends=False, border=rb"\x47[@A]"),
    "m2ts": Kind(".m2ts", "libx264", ends=False, border=rb"....\x47[@A]"),
    "mpg": Kind(".mpg", "mpeg1video", ends=False, border=PACK),
    "vob": Kind(".vob", "mpeg2video", format="vob", ends=False, border=PACK),
    "wmv": Kind(".wmv", "wmv2"),
    "flv": Kind(".flv", "flv"),
    "flv, h264, piped": Kind(".flv", "libx264", format="flv", piped=True),
    "ogv": Kind(".ogv", "libvpx", format="ogg", border=b"OggS"),
}


class _Pipe(io.RawIOBase):
    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


def make(folder: Path, kind: Kind) -> Path:
    """A whole file: 24 frames of a slide over soft noise, a key frame in every second."""
    path, pipe = folder / f"whole{kind.suffix}", _Pipe()
    plane = np.random.default_rng(0).uniform(0, 255, (10, 20, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    target: Any = pipe if kind.piped else str(path)
    name = kind.format or ("matroska" if kind.piped else None)
    with av.open(target, "w", format=name, options={"movflags": kind.muxer} if kind.muxer else {}) as container:
        stream = container.add_stream(kind.codec, rate=25 if kind.codec.startswith("mpeg") else 12)
        stream.width, stream.height, stream.pix_fmt = 96, 64, kind.pix_fmt
        stream.codec_context.gop_size = 12
        for i in range(NUM_FRAMES):
            pixels = np.ascontiguousarray(plane[i // 2 : i // 2 + 64, 2 * i : 2 * i + 96])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    if kind.piped:
        path.write_bytes(pipe.data)
    return path


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory) -> tuple[Kind, Path]:
    folder = tmp_path_factory.mktemp("kind")
    return KINDS[request.param], make(folder, KINDS[request.param])


def outcome(path: Path) -> str:
    """ "refused", "named" (the notes say that it may be cut) or the number of frames."""
    try:
        info, chunks = open_video(path)
        frames = np.concatenate(list(chunks))
    except UnreadableVideo as error:
        return "refused" if re.fullmatch(rf"{re.escape(str(path))}: .+", str(error)) else f"not in one line: {error}"
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (info.height, info.width, 3)
    return "named" if any("may have been cut" in note for note in info.notes) else f"{len(frames)} frames"


def test_a_whole_file_is_read_and_says_whether_its_end_shows(whole):
    kind, path = whole
    info, chunks = open_video(path)
    frames = np.concatenate(list(chunks))
    assert len(frames) == info.num_frames == NUM_FRAMES
    assert info.notes == (() if kind.ends else ("nothing in the file shows where it ends, so it may have been cut",))


def test_every_cut_is_refused_or_named(whole):
    kind, path = whole
    data, rng = path.read_bytes(), random.Random(0)
    n = len(data)
    near = [1, 100, n // 4, n // 2, n * 9 // 10, n - 300, n - 188, n - 16, n - 8, n - 4, n - 2, n - 1]
    borders = [found.start() for found in re.finditer(kind.border, data, re.S)] if kind.border else []
    places = {*near, *rng.sample(borders, min(12, len(borders))), *(rng.randrange(1, n) for _ in range(16))}
    cut, found = path.with_name(f"cut{kind.suffix}"), {}
    for place in sorted(place for place in places if 0 < place < n):
        cut.write_bytes(data[:place])
        found[place] = outcome(cut)
    as_whole = {place: what for place, what in found.items() if what not in ("refused", "named")}
    assert as_whole == {}, f"of {n} bytes"
    assert "refused" in found.values()


def test_a_file_whose_rest_is_zeros_is_not_read_as_whole(whole):
    """As a download leaves it that reserved the space: the size is right, the content is not there."""
    kind, path = whole
    data, zeros = path.read_bytes(), path.with_name(f"zeros{kind.suffix}")
    for part in (0.3, 0.5, 0.7):
        keep = int(len(data) * part)
        zeros.write_bytes(data[:keep] + bytes(len(data) - keep))
        if outcome(zeros) not in ("refused", "named"):
            assert np.array_equal(read_video(zeros), read_video(path)), "only padding was lost"


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file with a fault of one of seven kinds."""
    out, n = bytearray(data), len(data)
    at, length = rng.randrange(n), rng.randrange(1, 1000)
    match rng.randrange(7):
        case 0:
            out[at] ^= 1 << rng.randrange(8)
        case 1:
            for _ in range(rng.randrange(2, 60)):
                out[rng.randrange(n)] = rng.randrange(256)
        case 2:  # in the header
            for _ in range(rng.randrange(1, 12)):
                out[rng.randrange(min(n, 800))] = rng.randrange(256)
        case 3:
            out[at : at + length] = rng.randbytes(len(out[at : at + length]))
        case 4:
            out[at : at + length] = bytes(len(out[at : at + length]))
        case 5:
            del out[at : at + length]
        case 6:
            out[at:at] = rng.randbytes(length)
    return bytes(out)


def test_damaged_files_are_refused_or_read_and_raise_nothing_else(tmp_path):
    rng, found = random.Random(14), Counter[str]()
    files = {name: make(tmp_path, kind).read_bytes() for name, kind in KINDS.items()}
    expected = {}
    for name, data in files.items():
        (path := tmp_path / f"whole{KINDS[name].suffix}").write_bytes(data)
        expected[name] = read_video(path)
    for i in range(DAMAGED):
        name = list(KINDS)[i % len(KINDS)]
        path = tmp_path / f"damaged{KINDS[name].suffix}"
        path.write_bytes(damaged(files[name], rng))
        what = outcome(path)
        if what.endswith("frames"):
            frames = read_video(path)
            same = frames.shape == expected[name].shape and np.array_equal(frames, expected[name])
            what = "equal" if same else "other pixels" if len(frames) == NUM_FRAMES else "fewer frames"
        found[what] += 1
    print(dict(found))
    assert found["refused"] > DAMAGED / 3
    assert found["fewer frames"] <= DAMAGED / 50


def test_damage_that_a_decoder_would_conceal_is_refused(tmp_path):
    """Motion JPEG: a decoder fills what it cannot read, by up to 255 of 255, unless it is told that errors count."""
    path, concealed = make(tmp_path, KINDS["avi"]), 0
    data, before = path.read_bytes(), read_video(path)
    at = [found.start() for found in re.finditer(b"00dc", data)][8] + 700
    for seed in range(12):
        noise = random.Random(seed).randbytes(200)
        path.write_bytes(data[:at] + noise + data[at + len(noise) :])
        with av.open(str(path)) as container:
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        if len(frames) == NUM_FRAMES and np.abs(frames.astype(int) - before).max() > 50:
            concealed += 1
            with pytest.raises(UnreadableVideo, match="damaged behind frame"):
                read_video(path)
    assert concealed > 3


@pytest.mark.parametrize("reader", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["mkv", "webm", "mp4, fragments", "avi"])
def test_both_readers_refuse_what_was_cut(tmp_path, reader, name):
    if reader == "decord":
        pytest.importorskip("decord")
    path = make(tmp_path, KINDS[name])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 55 // 100])
    with pytest.raises(UnreadableVideo, match="cut: "):
        read_video(path, reader)


def test_one_command_names_every_damaged_file_and_scores_the_rest(tmp_path, run_cli):
    rng, folder = random.Random(3), tmp_path / "clips"
    folder.mkdir()
    names = ("mp4, fragments", "mov", "webm", "avi", "gif", "ts", "flv", "ogv")
    for name in names:
        suffix = KINDS[name].suffix
        data = make(tmp_path, KINDS[name]).read_bytes()
        stem = re.sub(r"\W", "", name)
        (folder / f"{stem}-cut{suffix}").write_bytes(data[: len(data) // 2])
        (folder / f"{stem}-damaged{suffix}").write_bytes(damaged(data, rng))
        (folder / f"{stem}-whole{suffix}").write_bytes(data)
    metrics, places = (
        ("--metrics", "temporal_flickering"),
        ("--store", tmp_path / "store", "--output", tmp_path / "run"),
    )
    answer = run_cli("score", folder, *metrics, *places)
    assert answer.code == 1
    assert "Traceback" not in answer.err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    missing = {one["case"] for one in record["missing"]}
    assert record["expected"] == 3 * len(names)
    assert not [case for case in missing if "-whole" in case]
    whole_ends = {re.sub(r"\W", "", name) for name in names if KINDS[name].ends}
    assert {f"{stem}-cut" for stem in whole_ends} <= {case.rsplit(".", 1)[0] for case in missing}
