"""Writing videos: what is written is read, and what would not survive is refused."""

from __future__ import annotations

import io
import os

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stg_eval.storage import video
from stg_eval.storage.video import probe, read_video, write_video
from stg_eval.types import StgEvalError


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


def test_same_frames_give_the_same_bytes(noise):
    frames = noise()
    for encoding in ("vp9-lossless", "h264-crf17"):
        assert video.encode(frames, 8, encoding) == video.encode(frames, 8, encoding)


def test_smaller_crf_is_closer_to_the_frames(noise):
    frames, errors = noise(num_frames=4, height=64, width=64), []
    for crf in (5, 23, 45):
        path = io.BytesIO(video.encode(frames, 8, f"h264-crf{crf}"))
        with av.open(path) as container:
            got = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        errors.append(np.abs(got.astype(int) - frames).mean())
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 2


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


def test_failed_write_leaves_nothing_and_the_old_file_whole(tmp_path, monkeypatch, noise):
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
