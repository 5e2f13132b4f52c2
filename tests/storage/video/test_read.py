"""Reading videos: every frame, in order, as other tools read it; what cannot be read whole is refused by name."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from stg_eval.storage.video import (
    UnreadableVideo,
    by_decord,
    decode,
    open_video,
    probe,
    read_frames,
    read_video,
    write_video,
)


def opencv(path: Path) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    capture, frames = cv2.VideoCapture(str(path)), []
    while (got := capture.read())[0]:
        frames.append(got[1][..., ::-1])
    return np.stack(frames)


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
def test_pixels_equal_opencv_and_decord(tmp_path, codec, pix_fmt, suffix, height, width, noise, encode_with):
    decord = pytest.importorskip("decord")
    frames = noise(12, height, width)
    path = encode_with(tmp_path / f"clip{suffix}", frames, codec, pix_fmt, **{"loglevel": "quiet"})
    ours = read_video(path)
    assert np.array_equal(ours, opencv(path))
    reader = decord.VideoReader(str(path), num_threads=1)
    assert np.array_equal(ours, reader.get_batch(range(len(reader))).asnumpy())


def test_variable_frame_rate_keeps_every_frame_and_opencvs_rate(tmp_path, noise, encode_with):
    cv2 = pytest.importorskip("cv2")
    path = encode_with(tmp_path / "vfr.mp4", noise(8), "libx264", "yuv420p", times=[0, 1, 2, 5, 6, 9, 14, 15])
    assert np.array_equal(read_video(path), opencv(path))
    assert probe(path).fps == pytest.approx(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS))


@pytest.mark.parametrize("chunk", [1, 4, 9, 100])
def test_chunk_size_changes_no_frame(tmp_path, chunk, noise):
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "vp9-lossless")
    chunks = list(read_frames(path, chunk))
    assert np.array_equal(np.concatenate(chunks), noise())
    assert all(len(c) == chunk for c in chunks[:-1])
    assert 1 <= len(chunks[-1]) <= chunk


def test_the_reader_decord_gives_the_same_frames(tmp_path, noise):
    pytest.importorskip("decord")
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "h264-crf17")
    info, frames = open_video(path, chunk=4, reader="decord")
    assert info == probe(path)
    assert np.array_equal(np.concatenate(list(frames)), read_video(path))


def test_hanging_decord_is_ended_and_named(tmp_path, noise):
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "h264-crf17")
    with pytest.raises(UnreadableVideo, match=r"decord gave no frame within 0\.01 s"):
        list(by_decord.decode_in_child(path, 4, timeout=0.01))


def test_every_truncation_is_refused(tmp_path, noise, encode_with):
    path = encode_with(tmp_path / "whole.mp4", noise(24, 64, 64), "libx264", "yuv420p", movflags="faststart")
    whole = path.read_bytes()
    assert len(read_video(path)) == 24
    for keep in (1, 100, len(whole) // 4, len(whole) // 2, len(whole) * 9 // 10, len(whole) - 1):
        cut = tmp_path / f"cut{keep}.mp4"
        cut.write_bytes(whole[:keep])
        with pytest.raises(UnreadableVideo, match=cut.name):
            read_video(cut)


def test_truncated_avi_is_refused(tmp_path, noise, encode_with):
    path = encode_with(tmp_path / "whole.avi", noise(24, 64, 64), "mpeg4", "yuv420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableVideo):
        read_video(path)


def test_damaged_bytes_in_the_middle_are_refused(tmp_path, noise, encode_with):
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


def test_long_video_is_read_in_bounded_memory(tmp_path, noise):
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


def test_chunks_of_large_frames_are_cut_to_64_mib(tmp_path, monkeypatch, noise):
    monkeypatch.setattr(decode, "CHUNK_BYTES", 2 * 34 * 50 * 3)
    path = tmp_path / "clip.mp4"
    write_video(path, noise(), 8, "vp9-lossless")
    assert [len(c) for c in read_frames(path)] == [2, 2, 2, 2, 1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (480, 640)])
def test_a_clip_copied_out_of_a_longer_one_is_read_as_opencv_reads_it(
    tmp_path, noise, encode_with, suffix, height, width
):
    """From a key frame whose neighbours before it need pictures that are not there (an open group of pictures)."""
    options = {
        "x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0:scenecut=0:repeat-headers=1",
        "preset": "ultrafast",
    }
    long, path = tmp_path / "long.mkv", tmp_path / f"clip{suffix}"
    plane = noise(1, height, width + 24)[0]
    with av.open(str(long), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for i in range(24):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane[:, i : i + width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(long)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        start = [i for i, packet in enumerate(packets) if packet.is_keyframe][1]
        assert packets[start + 1].pts < packets[start].pts
        offset = packets[start].dts
        for packet in packets[start:]:
            packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, stream
            target.mux_one(packet)
    assert np.array_equal(read_video(path)[8:], opencv(path)[8:])
    assert len(read_video(path)) == len(opencv(path))
