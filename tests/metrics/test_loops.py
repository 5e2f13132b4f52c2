"""Metrics in anyone's own loop give the scores of the pure statistics, on one process or several."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from stg_eval.metrics.fvd import frechet_distance
from stg_eval.metrics.inception_score import PROTOCOLS, Protocol, score_logits
from stg_eval.metrics.loops import FrechetVideoDistance, MeanClipScore, VideoInceptionScore
from stg_eval.storage.video import VideoInfo
from stg_eval.types import Case, StgEvalError


class Channels:
    """A stand-in for a network: the mean of each channel and frame."""

    signature = "channels"

    def frame_indices(self, num_frames: int, fps: float) -> Sequence[int]:
        return range(num_frames)

    def extract(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([c.mean(axis=(1, 2), dtype=np.float64).ravel() / 64 for c in clips]).astype(np.float32)


class Brightness:
    """A stand-in for a clip metric: mean brightness, plus the label where there is one; nan for a single frame."""

    signature = "brightness"

    def begin(self, video: VideoInfo, case: Case | None) -> None:
        self.label, self.frames = (case.label or 0) if case else 0, 0
        self.size = (video.num_frames, video.height, video.width)

    def update(self, frames: np.ndarray) -> None:
        assert frames.shape[:3] == self.size
        self.value = float(frames.mean())
        self.frames += len(frames)

    def end(self) -> float:
        return self.value + self.label if self.frames > 1 else float("nan")


def test_fvd_equals_the_statistic_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (30, 4, 8, 8, 3), dtype=np.uint8)
    fake = rng.integers(0, 200, (25, 4, 8, 8, 3), dtype=np.uint8)
    expected = frechet_distance(Channels().extract(list(fake)), Channels().extract(list(real)))
    for batch in (4, 30):
        metric = FrechetVideoDistance(Channels())
        for start in range(0, 30, batch):
            metric.update(torch.from_numpy(real[start : start + batch]), real=True)
            if start < 25:
                metric.update(fake[start : start + batch], real=False)
        assert metric.compute().item() == pytest.approx(expected, rel=1e-12)
    metric.reset()
    metric.update(fake, real=False)
    with pytest.raises(StgEvalError, match="at least 2 real clips and has 0"):
        metric.compute()


def test_fvd_refuses_another_count_than_asked() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (8, 2, 4, 4, 3), dtype=np.uint8)
    metric = FrechetVideoDistance(Channels(), num_clips=8)
    metric.update(clips, real=True)
    metric.update(clips[:7], real=False)
    with pytest.raises(StgEvalError, match="over 8 clips and has 7 generated ones"):
        metric.compute()
    metric.update(clips[7:], real=False)
    assert metric.compute().item() == pytest.approx(0, abs=1e-6)
    metric.update(clips[7:], real=False)
    with pytest.raises(StgEvalError, match="has 9 generated ones"):
        metric.compute()
    few = FrechetVideoDistance(Channels(), min_clips=9)
    few.update(clips, real=True)
    with pytest.raises(StgEvalError, match="at least 9 real clips and has 8"):
        few.compute()


def test_floats_are_refused() -> None:
    with pytest.raises(StgEvalError, match="clips are uint8"):
        FrechetVideoDistance(Channels()).update(torch.rand(2, 4, 8, 8, 3), real=True)


def test_inception_score_equals_the_statistic_whatever_the_batches() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (40, 2, 4, 4, 3), dtype=np.uint8)
    expected = score_logits(Channels().extract(list(clips)), PROTOCOLS["stylegan-v"])
    for batch in (7, 40):
        metric = VideoInceptionScore(Channels(), PROTOCOLS["stylegan-v"], num_clips=40)
        for start in range(0, 40, batch):
            metric.update(torch.from_numpy(clips[start : start + batch]))
        mean, spread = metric.compute()
        assert (mean.item(), spread.item()) == pytest.approx((expected.mean, expected.spread), rel=1e-12)
    metric.update(clips[:1])
    with pytest.raises(StgEvalError, match="over 40 clips and has 41"):
        metric.compute()


def test_clip_metric_is_averaged_over_all_clips() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (9, 2, 4, 5, 3), dtype=np.uint8)
    metric = MeanClipScore(Brightness())
    metric.update(clips[:4])
    metric.update(clips[4:], cases=[Case(id=str(i), label=10) for i in range(5)])
    assert metric.compute().item() == pytest.approx(clips.mean() + 50 / 9, rel=1e-12)
    with pytest.raises(StgEvalError, match=r"brightness is not defined for a clip of \[1, 4, 5, 3\]"):
        metric.update(clips[:1, :1])


ONE_OF_TWO = """
import sys
import numpy as np
import torch.distributed
from stg_eval.metrics.inception_score import Protocol
from stg_eval.metrics.loops import FrechetVideoDistance, VideoInceptionScore

class Channels:
    def extract(self, clips):
        return np.stack([c.mean(axis=(1, 2)).ravel() / 64 for c in clips]).astype(np.float32)

rank = int(sys.argv[1])
torch.distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
real, generated = np.load(sys.argv[3]), np.load(sys.argv[4])
fvd, score = FrechetVideoDistance(Channels()), VideoInceptionScore(Channels(), Protocol("one split", num_samples=20))
fvd.update(real[rank::2], real=True)
fvd.update(generated[rank::2], real=False)
score.update(generated[rank::2])
print(fvd.compute().item(), score.compute()[0].item())
torch.distributed.destroy_process_group()
"""


def test_two_processes_compute_the_scores_of_all_clips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (21, 2, 8, 8, 3), dtype=np.uint8)
    generated = rng.integers(0, 200, (20, 2, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "real.npy", real)
    np.save(tmp_path / "generated.npy", generated)
    files = [str(tmp_path / name) for name in ("meeting-point", "real.npy", "generated.npy")]
    processes = [
        subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(rank), *files], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    outputs = [p.communicate(timeout=280)[0] for p in processes]
    features, reference = (Channels().extract(list(clips)) for clips in (generated, real))
    logits_score = score_logits(features, Protocol("one split", num_samples=20)).mean
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0
        values = [float(v) for v in output.split()]
        assert values == pytest.approx([frechet_distance(features, reference), logits_score], rel=1e-9)
