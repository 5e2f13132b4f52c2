"""Golden frames: exact means exact, and what moved is named with its worst frame."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from stg_eval.gate import NotComparable, gate, golden
from stg_eval.storage import results
from stg_eval.storage.record import Missing
from stg_eval.storage.results import Results
from stg_eval.storage.video import write_video
from stg_eval.types import StgEvalError

Clips = Callable[..., Path]


@pytest.fixture
def make_clips(make_run: Callable[..., Path]) -> Clips:
    """A run folder with real clips in its store; `change` maps (clip number, frames) to frames."""

    def make(name: str, change: Callable[[int, np.ndarray], np.ndarray] = lambda i, f: f, cases: int = 3) -> Path:
        def add_clips(run: Results) -> None:
            for i, file in enumerate(run.scores["file"]):
                path = run.store / file
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng(i).integers(0, 256, (32, 48, 3), dtype=np.uint8)
                frames = np.stack([np.roll(noise, t, axis=1) for t in range(8)])
                write_video(path, change(i, frames), 8.0, "vp9-lossless")

        return make_run(name, cases=cases, seeds=(0,), edit=add_clips)

    return make


@pytest.fixture
def kept(make_clips: Clips, tmp_path: Path) -> Path:
    assert gate(tmp_path / "golden", make_clips("before"), update_baseline=True, golden=2).exit_code == 0
    return tmp_path / "golden"


def test_equal_pixels_pass_as_identical(kept: Path, make_clips: Clips) -> None:
    found = gate(kept, make_clips("after"))
    assert found.exit_code == 0
    assert "identical" in found.text()
    assert len(found.checks) == 2  # two of three clips were kept


def test_one_bad_frame_of_one_clip_fails_and_is_named(kept: Path, make_clips: Clips) -> None:
    def break_one_frame(i: int, frames: np.ndarray) -> np.ndarray:
        if i == 1:
            frames[5] = 255 - frames[5]
        return frames

    found = gate(kept, make_clips("after", break_one_frame))
    assert found.exit_code == 1
    assert [c.state for c in found.checks] == ["pass", "fail"]
    assert "cfg/case-1/seed 0" in found.checks[1].name
    assert "88 % of frames" in found.checks[1].line
    assert np.argmin(found.data["clips"][1]["psnr"]) == 5


def _one_level(i: int, frames: np.ndarray) -> np.ndarray:
    return np.where(frames < 255, frames + 1, frames - 1).astype(np.uint8)


def test_rounding_by_one_grey_level_passes_and_percent_and_floor_are_gates_of_their_own(
    kept: Path, make_clips: Clips, tmp_path: Path
) -> None:
    after = make_clips("after", _one_level)
    assert gate(kept, after).exit_code == 0
    config = tmp_path / "gate.toml"
    for text, code in (
        ("psnr = 50", 1),  # 48.1 dB is below
        ("psnr = 50\npercent = 0", 0),  # no frame need reach it
        ("psnr = 50\npercent = 0\nfloor_psnr = 49", 1),  # but every frame the floor
        ("psnr = 48", 0),
    ):
        config.write_text(f"[golden]\n{text}\n")
        assert gate(kept, after, config=config).exit_code == code, text
    config.write_text("[golden]\npsrn = 3\n")
    assert "unknown entry golden.psrn" in gate(kept, after, config=config).headline
    config.write_text('[golden]\npsnr = "high"\n')
    assert "golden.psnr must be a number" in gate(kept, after, config=config).headline


def test_psnr_and_ssim_are_those_of_scikit_image() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 40, 32, 3), dtype=np.uint8)
    noisy = np.clip(frames + rng.normal(0, [[[[2]]], [[[20]]], [[[60]]]], frames.shape), 0, 255).astype(np.uint8)
    psnr, ssim = golden.frame_psnr(noisy, frames), golden.frame_ssim(noisy, frames)
    assert psnr == pytest.approx([peak_signal_noise_ratio(a, b) for a, b in zip(frames, noisy, strict=True)])
    oracle = [
        structural_similarity(
            a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        for a, b in zip(frames, noisy, strict=True)
    ]
    assert ssim == pytest.approx(oracle, abs=2e-3)  # the borders are padded differently
    assert np.isinf(golden.frame_psnr(frames, frames)).all()


def _noisy(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, shape, dtype=np.uint8)
    frames[0] = 255  # flat: variances that rounding makes negative
    return np.clip(frames + rng.normal(0, 9, shape), 0, 255).astype(np.uint8), frames


@pytest.mark.parametrize("size", [(11, 11), (11, 64), (13, 17), (57, 33), (64, 96)])
def test_ssim_is_that_of_torchmetrics(size: tuple[int, int]) -> None:
    noisy, frames = _noisy((3, *size, 3))
    a, b = (torch.from_numpy(side).permute(0, 3, 1, 2).double() for side in (noisy, frames))
    oracle = structural_similarity_index_measure(a, b, data_range=255.0, reduction="none").numpy()
    assert golden.frame_ssim(noisy, frames) == pytest.approx(oracle, abs=1e-7)
    assert golden.frame_ssim(frames, frames) == pytest.approx(np.ones(3), abs=1e-7)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory from /proc")
def test_a_long_clip_takes_the_memory_of_a_few_frames() -> None:
    """In a process of its own, whose peak nothing else has raised: 32 frames in float64 are 20 MB."""
    script = """
import numpy as np
from stg_eval.gate import golden
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) / 1024
frames = np.random.default_rng(0).integers(0, 256, (32, 120, 212, 3), dtype=np.uint8)
golden.frame_psnr(frames[:1], frames[1:2]), golden.frame_ssim(frames[:1], frames[1:2])
before = peak()
golden.frame_psnr(frames, frames), golden.frame_ssim(frames, frames)
print(peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 8


def test_golden_frames_without_a_partner_or_of_another_size_are_not_comparable(kept: Path, make_clips: Clips) -> None:
    def lose(run: Path) -> Path:
        found = results.load(run)
        lost = (Missing(variant="cfg", case="case-1", seed=0, problem="out of memory"),)
        results.save(replace(found, run=found.run.model_copy(update={"missing": lost})))
        return run

    with pytest.raises(NotComparable, match="cfg/case-1/seed 0 is missing in the run"):
        golden.compare(kept, lose(make_clips("after")))
    with pytest.raises(NotComparable, match=r"\(8, 32, 48, 3\) in the golden frames, \(8, 16, 48, 3\)"):
        golden.compare(kept, make_clips("small", lambda i, f: f[:, :16]))


def test_damaged_and_newer_golden_folders_are_refused(kept: Path, make_clips: Clips) -> None:
    after = make_clips("after")
    clip = next((kept / "clips").iterdir())
    intact = clip.read_bytes()
    clip.write_bytes(intact[:-10])
    with pytest.raises(StgEvalError, match="is missing or damaged"):
        golden.compare(kept, after)
    clip.write_bytes(intact)
    header = json.loads((kept / "golden.json").read_text())
    (kept / "golden.json").write_text(json.dumps(header | {"format": 2}))
    with pytest.raises(StgEvalError, match="newer stg-eval"):
        golden.compare(kept, after)
    (kept / "golden.json").write_text('{"format": 1')
    with pytest.raises(StgEvalError, match="is damaged"):
        golden.compare(kept, after)


def test_golden_frames_killed_while_they_are_replaced_are_the_old_or_the_new(
    kept: Path, make_clips: Clips, tmp_path: Path, killed_at: Callable[[Callable[[], object], int], bool]
) -> None:
    before, after = tmp_path / "before", make_clips("after", lambda i, frames: frames[::-1])
    step, lived = 0, False
    while not lived:
        step += 2
        golden.update(kept, before, 2)
        lived = killed_at(lambda: golden.update(kept, after, 1), step)
        verdicts = [golden.compare(kept, run).exit_code for run in (before, after)]
        assert sorted(verdicts) == [0, 1]
        golden.update(kept, after, 1)
        assert sorted(path.name for path in kept.rglob("*")) == ["0000.mp4", "clips", "golden.json"]
    assert step > 8
    assert verdicts == [1, 0]


def test_golden_frames_are_replaced_but_no_other_folder_is(kept: Path, make_clips: Clips, tmp_path: Path) -> None:
    after = make_clips("after", _one_level, cases=5)
    assert gate(kept, after, update_baseline=True, golden=4).exit_code == 0
    assert len(gate(kept, after).checks) == 4
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    refused = gate(tmp_path / "precious", after, update_baseline=True, golden=1)
    assert refused.exit_code == 2
    assert (tmp_path / "precious" / "thesis.txt").is_file()
