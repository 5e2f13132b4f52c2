"""The scoring loop: one decode, the same numbers in any order and batch, one clip's failure stays its own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from stg_eval.metrics.decoding import FRAMES_PER_CHUNK, extract_arrays, score_clips
from stg_eval.storage import video
from stg_eval.storage.video import VideoInfo, write_video
from stg_eval.types import Case, StgEvalError


class MeanRed:
    """A scorer simple enough to check by eye."""

    signature = "mean-red"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self.info, self.case, self.total, self.count = video, case, 0, 0

    def update(self, frames: np.ndarray) -> None:
        assert frames.dtype == np.uint8
        assert frames.ndim == 4
        self.total, self.count = self.total + int(frames[..., 0].sum()), self.count + frames[..., 0].size

    def end(self) -> float:
        return self.total / self.count


class FailsOn(MeanRed):
    """Raises on clips of one height, in the step it is told."""

    def __init__(self, step: str, height: int = 18) -> None:
        self.step, self.height = step, height

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        super().begin(video, case)
        self.fail("begin")

    def update(self, frames: np.ndarray) -> None:
        super().update(frames)
        self.fail("update")

    def end(self) -> float:
        self.fail("end")
        return super().end()

    def fail(self, step: str) -> None:
        if step == self.step and self.info.height == self.height:
            raise RuntimeError("not this one\n(second line)")


class Undefined(MeanRed):
    def end(self) -> float:
        return math.nan


class Network:
    """An extractor with a real network: a convolution over frames 0, 2 and 4."""

    signature = "network"

    def __init__(self) -> None:
        import torch

        self.conv = torch.nn.Conv3d(3, 8, 3, bias=False)
        generator = torch.Generator().manual_seed(0)
        self.conv.weight.data.normal_(generator=generator)
        self.batches: list[int] = []

    def frame_indices(self, num_frames: int, fps: float) -> list[int]:
        if num_frames < 5:
            raise StgEvalError("needs 5 frames")
        return [0, 2, 4]

    def extract(self, clips) -> np.ndarray:
        import torch

        self.batches.append(len(clips))
        if any(clip.shape[1] == 18 for clip in clips):
            raise RuntimeError("cannot see this height")
        x = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3) / 255
        with torch.inference_mode():
            return self.conv(x).mean((2, 3, 4)).numpy()


@pytest.fixture
def clips(tmp_path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = []
    for i in range(7):
        paths.append(tmp_path / f"{i}.mp4")
        frames = rng.integers(0, 256, (6 + i, 16, 24, 3), dtype=np.uint8)
        write_video(paths[-1], frames, 8, "vp9-lossless")
    return paths


def pairs(paths: list[Path]) -> list[tuple[Path, None]]:
    return [(path, None) for path in paths]


def test_scores_and_features_come_in_order_and_are_right(clips):
    outcomes = list(score_clips(pairs(clips), {"red": MeanRed()}, {"net": Network()}, batch_size=3))
    assert [o.path for o in outcomes] == clips
    for outcome in outcomes:
        frames = video.read_video(outcome.path)
        assert outcome.values == {"red": pytest.approx(frames[..., 0].mean())}
        assert outcome.info.num_frames == len(frames)
        assert outcome.features["net"] == pytest.approx(Network().extract([frames[[0, 2, 4]]])[0], abs=1e-5)
        assert (outcome.problems, outcome.error) == ({}, None)


def test_each_clip_is_decoded_once(clips, monkeypatch):
    opened = []
    original = video.open_video
    monkeypatch.setattr(
        "stg_eval.metrics.decoding.open_video", lambda path, *a: opened.append(path) or original(path, *a)
    )
    scorers = {str(i): MeanRed() for i in range(5)}
    list(score_clips(pairs(clips), scorers, {"a": Network(), "b": Network()}))
    assert opened == clips


def test_order_and_batch_size_never_change_a_score(clips):
    def run(order, batch_size):
        outcomes = list(score_clips(pairs(order), {"red": MeanRed()}, {"net": Network()}, batch_size))
        return {o.path.name: (o.values["red"], o.features["net"]) for o in outcomes}

    expected = run(clips, 3)
    for order, batch_size in ((clips[::-1], 3), (clips[3:] + clips[:3], 3), (clips, 1), (clips, 16)):
        for name, (value, feature) in run(order, batch_size).items():
            assert value == expected[name][0]
            assert feature == pytest.approx(expected[name][1], abs=1e-5)


def test_features_have_the_same_bits_whatever_was_scored_before(clips):
    """A resumed run extracts fewer clips; batches are filled up, so the network runs at the same size."""
    whole = {o.path: o.features["net"] for o in score_clips(pairs(clips), {}, {"net": Network()}, batch_size=4)}
    for done in range(1, 7):
        network = Network()
        for outcome in score_clips(pairs(clips[done:]), {}, {"net": network}, batch_size=4):
            assert np.array_equal(outcome.features["net"], whole[outcome.path])
        assert set(network.batches) == {4}


def test_clips_in_memory_get_the_features_of_the_same_clips_in_files(clips):
    arrays = (video.read_video(path) for path in clips)
    features = extract_arrays(arrays, {"net": Network()}, batch_size=4)["net"]
    outcomes = score_clips(pairs(clips), {}, {"net": Network()}, batch_size=4)
    assert np.array_equal(features, np.stack([o.features["net"] for o in outcomes]))


@pytest.mark.parametrize("step", ["begin", "update", "end"])
def test_failing_scorer_is_named_and_stops_nothing(clips, tmp_path, step):
    odd = tmp_path / "odd.mp4"
    write_video(odd, np.zeros((6, 18, 24, 3), np.uint8), 8, "vp9-lossless")
    order = [clips[0], odd, clips[1]]
    extractors = {"net": Network()}
    outcomes = list(score_clips(pairs(order), {"bad": FailsOn(step), "red": MeanRed()}, extractors, batch_size=2))
    assert [sorted(o.values) for o in outcomes] == [["bad", "red"], ["red"], ["bad", "red"]]
    assert outcomes[1].problems == {
        "bad": "RuntimeError: not this one (second line)",
        "net": "RuntimeError: cannot see this height",
    }
    assert [sorted(o.features) for o in outcomes] == [["net"], [], ["net"]]
    assert outcomes[0].problems == outcomes[2].problems == {}


def test_unreadable_files_are_named_in_place_and_have_no_scores(clips, tmp_path):
    empty, cut, missing = tmp_path / "empty.mp4", tmp_path / "cut.mp4", tmp_path / "missing.mp4"
    empty.touch()
    cut.write_bytes(clips[0].read_bytes()[:-300])
    order = [clips[0], empty, cut, missing, clips[1]]
    outcomes = list(score_clips(pairs(order), {"red": MeanRed()}, {"net": Network()}, batch_size=2))
    assert [o.path for o in outcomes] == order
    assert [bool(o.error) for o in outcomes] == [False, True, True, True, False]
    assert [o.error.split(":")[0] for o in outcomes[1:4]] == [str(p) for p in order[1:4]]
    assert all(o.values == o.features == {} for o in outcomes[1:4])
    clean = list(score_clips(pairs([clips[0], clips[1]]), {"red": MeanRed()}, {"net": Network()}, batch_size=2))
    assert [o.values for o in outcomes if not o.error] == [o.values for o in clean]


def test_undefined_score_and_short_clip_are_explained(tmp_path):
    one = tmp_path / "one.mp4"
    write_video(one, np.zeros((1, 16, 24, 3), np.uint8), 8, "vp9-lossless")
    (outcome,) = score_clips([(one, None)], {"nan": Undefined()}, {"net": Network()})
    assert math.isnan(outcome.values["nan"])
    assert outcome.problems == {"nan": "not defined for this clip (1 frame)", "net": "needs 5 frames"}


def test_scorers_see_case_count_and_long_clips_in_chunks(tmp_path):
    path, case, sizes = tmp_path / "long.mkv", Case(id="a", label=3), []
    long = tmp_path / "long.mp4"
    write_video(long, np.zeros((FRAMES_PER_CHUNK * 2 + 5, 16, 16, 3), np.uint8), 8, "vp9-lossless")
    remux_without_count(long, path)

    class Watching(MeanRed):
        def update(self, frames: np.ndarray) -> None:
            super().update(frames)
            sizes.append(len(frames))

    scorer = Watching()
    (outcome,) = score_clips([(path, case)], {"watch": scorer}, {"net": Network()})
    assert scorer.case is case
    assert scorer.info.num_frames == outcome.info.num_frames == sum(sizes) == FRAMES_PER_CHUNK * 2 + 5
    assert max(sizes) <= FRAMES_PER_CHUNK


def remux_without_count(source: Path, target: Path) -> None:
    import av

    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for packet in reader.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    assert video.probe(target).num_frames == 69
