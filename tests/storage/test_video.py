"""Video files: what is written is read, and what cannot be read whole is refused by name."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.storage import video
from stg_eval.storage.video import UnreadableVideo, open_video, probe, read_frames, read_video, write_video
from stg_eval.types import StgEvalError


def noise(num_frames: int = 9, height: int = 34, width: int = 50, seed: int = 0) -> np.ndarray:
    """Smooth moving colour, uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (num_frames, height // 8 + 2, width // 8 + 2, 3))
    return np.repeat(np.repeat(coarse, 8, 1), 8, 2)[:, :height, :width].astype(np.uint8)


def encode_with(
    path: Path, frames: np.ndarray, codec: str, pix_fmt: str, times: list[int] | None = None, **options: str
) -> Path:
    """A file as other tools write it."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.codec_context.time_base = Fraction(1, 25)
        for i, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            frame.pts, frame.time_base = (times[i] if times else i), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def opencv(path: Path) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    capture, frames = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        frames.append(got[1][..., ::-1])
    return np.stack(frames)


@settings(max_examples=12, deadline=None)
@given(
    num_frames=st.integers(1, 6),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    fps=st.sampled_from([1, 7, 7.5, 24, 23.976, 30000 / 1001, 60]),
    seed=st.integers(0, 99),
)
def test_lossless_encoding_gives_back_every_pixel(tmp_path_factory, num_frames, height, width, fps, seed):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)
    write_video(path, frames, fps, "vp9-lossless")
    assert np.array_equal(read_video(path), frames)
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == (num_frames, height, width)
    if num_frames > 1:
        assert info.fps == pytest.approx(fps, rel=1e-4)


def test_same_frames_give_the_same_bytes():
    frames = noise()
    for encoding in ("vp9-lossless", "h264-crf17"):
        assert video.encode(frames, 8, encoding) == video.encode(frames, 8, encoding)


def test_smaller_crf_is_closer_to_the_frames():
    frames, errors = noise(num_frames=4, height=64, width=64), []
    for crf in (5, 23, 45):
        path = io.BytesIO(video.encode(frames, 8, f"h264-crf{crf}"))
        with av.open(path) as container:
            got = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        errors.append(np.abs(got.astype(int) - frames).mean())
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 2


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix", "height", "width"),
    [
        ("libx264", "yuv420p", ".mp4", 34, 50),
        ("libx264", "yuv444p", ".mkv", 33, 51),
        ("libx264", "yuvj420p", ".mp4", 34, 50),
        ("libx265", "yuv420p", ".mp4", 34, 50),
        ("mpeg4", "yuv420p", ".avi", 34, 50),
        ("libvpx-vp9", "gbrp", ".mp4", 33, 51),
    ],
)
def test_pixels_equal_opencv_and_decord(tmp_path, codec, pix_fmt, suffix, height, width):
    decord = pytest.importorskip("decord")
    frames = noise(12, height, width)
    path = encode_with(tmp_path / f"clip{suffix}", frames, codec, pix_fmt, **{"loglevel": "quiet"})
    ours = read_video(path)
    assert np.array_equal(ours, opencv(path))
    reader = decord.VideoReader(str(path), num_threads=1)
    assert np.array_equal(ours, reader.get_batch(range(len(reader))).asnumpy())


def test_variable_frame_rate_keeps_every_frame_and_opencvs_rate(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = encode_with(tmp_path / "vfr.mp4", noise(8), "libx264", "yuv420p", times=[0, 1, 2, 5, 6, 9, 14, 15])
    assert np.array_equal(read_video(path), opencv(path))
    assert probe(path).fps == pytest.approx(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS))


@pytest.mark.parametrize("chunk", [1, 4, 9, 100])
def test_chunk_size_changes_no_frame(tmp_path, chunk):
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "vp9-lossless")
    chunks = list(read_frames(path, chunk))
    assert np.array_equal(np.concatenate(chunks), noise())
    assert all(len(c) == chunk for c in chunks[:-1])
    assert 1 <= len(chunks[-1]) <= chunk


def test_the_reader_decord_gives_the_same_frames(tmp_path):
    pytest.importorskip("decord")
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "h264-crf17")
    info, frames = open_video(path, chunk=4, reader="decord")
    assert info == probe(path)
    assert np.array_equal(np.concatenate(list(frames)), read_video(path))


def test_hanging_decord_is_ended_and_named(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "h264-crf17")
    with pytest.raises(UnreadableVideo, match=r"decord gave no frame within 0\.01 s"):
        next(video._decode_in_child(path, 4, timeout=0.01))


def test_every_truncation_is_refused(tmp_path):
    path = encode_with(tmp_path / "whole.mp4", noise(24, 64, 64), "libx264", "yuv420p", movflags="faststart")
    whole = path.read_bytes()
    assert len(read_video(path)) == 24
    for keep in (1, 100, len(whole) // 4, len(whole) // 2, len(whole) * 9 // 10, len(whole) - 1):
        cut = tmp_path / f"cut{keep}.mp4"
        cut.write_bytes(whole[:keep])
        with pytest.raises(UnreadableVideo, match=cut.name):
            read_video(cut)


def test_truncated_avi_is_refused(tmp_path):
    path = encode_with(tmp_path / "whole.avi", noise(24, 64, 64), "mpeg4", "yuv420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableVideo):
        read_video(path)


def test_damaged_bytes_in_the_middle_are_refused(tmp_path):
    path = encode_with(tmp_path / "clip.mp4", noise(24, 64, 64), "libx264", "yuv420p", movflags="faststart")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(UnreadableVideo, match=r"damaged|truncated"):
        read_video(path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty file"), (b"not a video" * 50, "damaged"), (None, "no such file")]
)
def test_what_is_no_video_is_refused(tmp_path, content, reason):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableVideo, match=reason):
        probe(path)


def test_ten_bits_are_refused_by_name(tmp_path):
    path = encode_with(tmp_path / "deep.mp4", noise(), "libx264", "yuv420p10le")
    with pytest.raises(UnreadableVideo, match=r"deep\.mp4: 10-bit video"):
        probe(path)


def test_rotation_is_refused_by_name(tmp_path):
    path = encode_with(tmp_path / "turned.mov", noise(), "libx264", "yuv420p")
    data = path.read_bytes()
    identity = b"".join(n.to_bytes(4, "big") for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    quarter = b"".join((n % (1 << 32)).to_bytes(4, "big") for n in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30))
    at = data.index(identity, data.index(b"tkhd"))
    path.write_bytes(data[:at] + quarter + data[at + len(quarter) :])
    with pytest.raises(UnreadableVideo, match=r"turned\.mov: rotated by -?90 degrees"):
        probe(path)


def test_container_without_a_count_is_counted_without_decoding(tmp_path):
    path = encode_with(tmp_path / "clip.mkv", noise(), "libx264", "yuv420p")
    assert probe(path).num_frames is None
    assert video.count_frames(path) == len(read_video(path)) == 9


@pytest.mark.parametrize(
    ("frames", "encoding", "reason"),
    [
        (np.full((2, 8, 8, 3), np.nan), "vp9-lossless", "NaN"),
        (np.zeros((2, 8, 8, 3), np.float32), "vp9-lossless", "uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), "vp9-lossless", "uint8"),
        (np.zeros((2, 8, 8), np.uint8), "vp9-lossless", "uint8"),
        (np.zeros((2, 8, 9, 3), np.uint8), "h264-crf17", "9x8"),
        (np.zeros((2, 8, 8, 3), np.uint8), "h264-crf99", "unknown encoding"),
        (np.zeros((2, 8, 8, 3), np.uint8), "gif", "vp9-lossless"),
    ],
)
def test_frames_that_would_not_survive_are_refused(tmp_path, frames, encoding, reason):
    with pytest.raises(StgEvalError, match=reason):
        write_video(tmp_path / "clip.mp4", frames, 8, encoding)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_nothing_and_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "vp9-lossless")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StgEvalError, match="No space left on device"):
        write_video(path, noise(seed=1), 8, "vp9-lossless")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_long_video_is_read_in_bounded_memory(tmp_path):
    """600 frames of 320x240 are 138 MB; reading them by eights must not hold more than a few chunks."""
    import tracemalloc

    frames = np.broadcast_to(noise(1, 240, 320), (600, 240, 320, 3))
    path = tmp_path / "long.mp4"
    write_video(path, frames, 30, "h264-crf40")
    tracemalloc.start()
    assert sum(len(c) for c in read_frames(path, chunk=8)) == 600
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_chunks_of_large_frames_are_cut_to_64_mib(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "CHUNK_BYTES", 2 * 34 * 50 * 3)
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "vp9-lossless")
    assert [len(c) for c in read_frames(path)] == [2, 2, 2, 2, 1]
