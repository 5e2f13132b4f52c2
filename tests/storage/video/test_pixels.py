"""One conversion for every clip: upright, 8 bits, RGB; ordinary clips have no notes."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from stg_eval.storage.video import UnreadableVideo, open_video, probe, read_video

IDENTITY = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """The MOV with another display matrix in its track header, as phones write it."""
    data = path.read_bytes()
    old, new = (b"".join((n % (1 << 32)).to_bytes(4, "big") for n in m) for m in (IDENTITY, matrix))
    at = data.index(old, data.index(b"tkhd"))
    out = path.with_name(f"turned-{path.name}")
    out.write_bytes(data[:at] + new + data[at + len(new) :])
    return out


@pytest.mark.parametrize(("across", "first", "second"), product((False, True), (1, -1), (1, -1)))
def test_every_display_matrix_turns_the_frames_upright(tmp_path, noise, encode_with, across, first, second):
    """Against the definition, point by point: (x, y) goes to (a x + c y, b x + d y)."""
    plain = encode_with(tmp_path / "clip.mov", noise(3, 16, 24), "libx264", "yuv420p")
    a, b, c, d = (0, first, second, 0) if across else (first, 0, 0, second)
    path = turned(plain, (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30))
    (info, chunks), before = open_video(path), read_video(plain)
    expected = np.zeros((3, info.height, info.width, 3), np.uint8)
    for y, x in np.ndindex(16, 24):
        expected[:, (b * x + d * y) % info.height, (a * x + c * y) % info.width] = before[:, y, x]
        # -1 is the last row or column, as -x - 1 counts from the other side
    shift = [axis for axis, sign in ((1, b + d), (2, a + c)) if sign < 0]
    expected = np.roll(expected, -1, shift) if shift else expected
    assert (info.height, info.width) == ((24, 16) if across else (16, 24))
    assert np.array_equal(np.concatenate(list(chunks)), expected)
    assert bool(info.notes) == ((a, d) != (1, 1))


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_turned_clips_are_read_as_vbench_reads_them(tmp_path, noise, encode_with, quarter):
    """VBench reads by decord (aesthetic, imaging quality) and OpenCV (flickering, smoothness, dynamic degree)."""
    cv2, decord = pytest.importorskip("cv2"), pytest.importorskip("decord")
    a, b = ((0, 1), (-1, 0), (0, -1))[quarter - 1]
    plain = encode_with(tmp_path / "clip.mov", noise(3, 64, 128), "libx264", "yuv420p")
    path = turned(plain, (a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30))
    ours = read_video(path)
    reader = decord.VideoReader(str(path), num_threads=1)
    assert np.array_equal(ours, reader.get_batch(range(len(reader))).asnumpy())
    capture = cv2.VideoCapture(str(path))
    assert np.array_equal(ours[0], capture.read()[1][..., ::-1])
    assert "turned by" in probe(path).notes[0]


def test_a_turn_that_is_no_quarter_is_refused_by_name(tmp_path, noise, encode_with):
    plain = encode_with(tmp_path / "clip.mov", noise(), "libx264", "yuv420p")
    half = 46341  # sin 45 degrees
    path = turned(plain, (half, half, 0, -half, half, 0, 0, 0, 1 << 30))
    with pytest.raises(UnreadableVideo, match=r"turned-clip\.mov: rotated by -?45 degrees"):
        probe(path)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "bits"),
    [
        ("libx264", "yuv420p10le", 10),
        ("libx265", "yuv420p12le", 12),
        ("ffv1", "yuv444p16le", 16),
        ("ffv1", "gray10le", 10),
    ],
)
def test_deep_clips_are_read_as_their_8_bit_copy_would_be(tmp_path, noise, encode_with, codec, pix_fmt, bits):
    """The copy is made here by rounding, so that libswscale is not its own witness; it dithers, by up to one level."""
    deep = encode_with(tmp_path / "deep.mkv", noise(3), codec, pix_fmt, loglevel="quiet")
    copy = tmp_path / "copy.mkv"
    shallow = pix_fmt.removesuffix("le").removesuffix(str(bits))
    with av.open(str(deep)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 50, 34, shallow
        for frame in source.decode(video=0):
            new = av.VideoFrame(50, 34, shallow)
            for old_plane, plane in zip(frame.planes, new.planes, strict=True):
                values = np.frombuffer(old_plane, "<u2").reshape(old_plane.height, -1)[:, : plane.width]
                padded = np.zeros((plane.height, plane.line_size), np.uint8)
                padded[:, : plane.width] = np.minimum((values.astype(int) + (1 << bits - 9)) >> (bits - 8), 255)
                plane.update(padded)
            new.pts, new.time_base = frame.pts, frame.time_base
            new.color_range, new.colorspace = frame.color_range, frame.colorspace
            target.mux(stream.encode(new))
        target.mux(stream.encode(None))
    ours, theirs = read_video(deep).astype(int), read_video(copy).astype(int)
    assert (
        np.abs(ours - theirs).max() <= 5
    )  # a level of Y is 1.16, one of U or V up to 2.02 of blue, and both sides round
    assert np.abs(ours - theirs).mean() < 1
    assert probe(deep).notes == (f"{bits} to 8 bits a channel",)


def test_deep_clips_differ_from_vbenchs_readers_no_more_than_these_from_each_other(tmp_path, noise, encode_with):
    cv2, decord = pytest.importorskip("cv2"), pytest.importorskip("decord")
    path = encode_with(tmp_path / "deep.mp4", noise(1, 64, 64), "libx264", "yuv420p10le")
    ours = read_video(path)[0].astype(int)
    by_cv2 = cv2.VideoCapture(str(path)).read()[1][..., ::-1].astype(int)
    by_decord = decord.VideoReader(str(path), num_threads=1)[0].asnumpy().astype(int)
    apart = np.abs(by_cv2 - by_decord).mean()
    assert apart > 0
    assert np.abs(ours - by_cv2).mean() <= 1.1 * apart
    assert np.abs(ours - by_decord).mean() <= 1.1 * apart


@pytest.mark.parametrize("pix_fmt", ["rgb555le", "rgb565le", "rgb24", "bgr24", "gray"])
def test_shallow_rgb_is_read_as_opencv_reads_it_without_a_note(tmp_path, noise, encode_with, pix_fmt):
    cv2 = pytest.importorskip("cv2")
    path = encode_with(tmp_path / "clip.avi", noise(2), "rawvideo", pix_fmt)
    assert np.array_equal(read_video(path)[0], cv2.VideoCapture(str(path)).read()[1][..., ::-1])
    assert probe(path).notes == ()


def test_transparency_is_left_out_with_a_note(tmp_path, noise, encode_with):
    from PIL import Image

    frames = [Image.fromarray(frame).convert("RGBA") for frame in noise(3)]
    for frame in frames:
        frame.putalpha(128)
    frames[0].save(tmp_path / "clear.gif", save_all=True, append_images=frames[1:])
    opaque = encode_with(tmp_path / "opaque.mov", noise(2), "qtrle", "argb")
    assert probe(opaque).notes == ()
    see_through = tmp_path / "clear.mov"
    with av.open(str(see_through), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 50, 34, "argb"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(frame), format="rgba")))
        container.mux(stream.encode(None))
    assert probe(see_through).notes == ("transparency left out",)


def test_gif_is_read_as_vbench_reads_it(tmp_path, noise):
    """VBench reads .gif by Pillow."""
    from PIL import Image, ImageSequence

    path = tmp_path / "clip.gif"
    frames = [Image.fromarray(frame).quantize(64) for frame in noise(5)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, loop=0)
    with Image.open(path) as image:
        expected = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)])
    assert np.array_equal(read_video(path), expected)
    assert probe(path).fps == pytest.approx(10)
    assert probe(path).notes == ()
