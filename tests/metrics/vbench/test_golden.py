"""The arithmetic around the networks, against values that the reference implementations returned."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stg_eval.metrics.vbench import (
    aesthetic_quality,
    clip,
    dynamic_degree,
    imaging_quality,
    motion_smoothness,
    musiq,
)
from stg_eval.metrics.vbench import temporal_flickering as flickering


def chw(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("case", ["rand", "two", "static", "blackwhite", "big_sum", "one"])
def test_temporal_flickering_is_bit_equal(golden, case):
    arrays, values = golden("temporal_flickering")
    frames = arrays[f"{case}_frames"]
    errors = [flickering.pair_mae(a, b) for a, b in pairwise(frames)]
    if case == "one":
        assert np.isnan(flickering.flickering(errors))
        return
    assert np.array_equal(np.array(errors), arrays[f"{case}_pair_mae"])
    assert flickering.flickering(errors) == values[case]["score"]


@pytest.mark.parametrize("case", ["small", "padded", "tiny", "ties"])
def test_mean_of_the_largest_flow_lengths(golden, case):
    arrays, values = golden("dynamic_degree")
    flow = torch.from_numpy(arrays[f"{case}_flow"])
    assert int(flow[0, 0].numel() * 0.05) == values["scores"][case]["cut_index"]
    assert dynamic_degree.mean_of_largest(flow).item() == pytest.approx(values["scores"][case]["official"], rel=1e-6)


def judge(scores: list[float], height: int, width: int, expected: int | None) -> tuple[bool, int]:
    """The scorer's verdict from pair scores alone, and how many of them it asked for."""
    scorer = object.__new__(dynamic_degree.DynamicDegree)
    scorer._expected, scorer._verdict, scorer._scored, scorer._exceeding = expected, None, 0, 0
    threshold = 6.0 * (min(height, width) / 256.0)
    scorer._judge()
    for value in scores:
        if scorer._verdict is not None:
            break
        scorer._scored += 1
        scorer._exceeding += value > threshold
        scorer._judge()
    if scorer._verdict is None:
        return dynamic_degree.is_moving(len(scores), scorer._exceeding, len(scores) + 1), scorer._scored
    return scorer._verdict, scorer._scored


def test_dynamic_degrees_verdicts(golden):
    for case in golden("dynamic_degree")[1]["decisions"]:
        for expected in (case["frames"], None):
            verdict, _ = judge(case["scores"], case["h"], case["w"], expected)
            assert verdict == case["moving"], case


def test_dynamic_degrees_needed_count_and_interval(golden):
    _, values = golden("dynamic_degree")
    for case in values["params"]:
        needed = case["count_num"]
        assert dynamic_degree.is_moving(case["frames"] - 1, needed, case["frames"]) == (case["frames"] > 1)
        assert not dynamic_degree.is_moving(case["frames"] - 1, needed - 1, case["frames"])
    for case in values["interval"]:
        interval = dynamic_degree.sampling_interval(case["fps"])
        assert (interval, len(range(0, 49, interval))) == (case["interval"], case["kept_of_49"])


@given(scores=st.lists(st.sampled_from([0.0, 5.9, 6.0, 6.1, 20.0]), max_size=40))
def test_early_stop_never_changes_the_verdict(scores):
    """Against the official loop: every pair counts, and reaching the number at any time means moving."""
    needed, count, moving = round(4 * ((len(scores) + 1) / 16.0)), 0, False
    for value in scores:
        count += value > 6.0
        moving = moving or count >= needed
    verdict, asked = judge(scores, 256, 256, len(scores) + 1)
    assert verdict == moving
    assert asked <= len(scores)
    if count == 0 and len(scores) > 4:
        assert asked <= len(scores) - needed + 1
    if count == len(scores) > 0:
        assert asked == needed


def test_static_filters_verdicts(golden, monkeypatch):
    """Fed with the recorded pair scores instead of a network's."""
    from pathlib import Path

    from stg_eval.metrics.vbench.static_filter import StaticFilter
    from stg_eval.storage.video import VideoInfo

    _, values = golden("dynamic_degree")
    for case in values["static_filter"]["decisions"]:
        neighbours, around = case["scores"][:-2], case["scores"][-2:]
        scores = iter(neighbours)
        scorer = object.__new__(StaticFilter)
        monkeypatch.setattr(StaticFilter, "_score", lambda self, a, b, scores=scores: next(scores))
        scorer.begin(VideoInfo(Path("x"), case["frames"], 256, 256, 8.0, "h264"), None)
        scorer.update(np.zeros((case["frames"], 1, 1, 3), np.uint8))
        scores = iter(around)
        monkeypatch.setattr(StaticFilter, "_score", lambda self, a, b, scores=scores: next(scores))
        assert bool(scorer.end()) == case["static"], case


@pytest.mark.parametrize("case", ["odd", "even", "three"])
def test_motion_smoothness_from_predictions(golden, case):
    arrays, values = golden("motion_smoothness")
    frames, predicted = arrays[f"{case}_frames"], torch.from_numpy(arrays[f"{case}_pred"])
    quantised = motion_smoothness.quantise(predicted).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(quantised, arrays[f"{case}_pred_u8"])
    actual = frames[1 : 2 * len(quantised) : 2].astype(float)
    errors = np.abs(quantised - actual).mean((1, 2, 3))
    assert motion_smoothness.smoothness(errors) == pytest.approx(values["score"][case]["norm"], abs=1e-15)


def test_paddings(golden):
    for case in golden("motion_smoothness")[1]["pad"]:
        assert list(motion_smoothness.padding(case["h"], case["w"])) == case["amt16"]
        assert list(dynamic_degree.padding(case["h"], case["w"])) == case["raft8"]


def test_motion_smoothness_compares_the_official_frames(golden):
    """Which frames go in and which are compared, seen through a network that remembers its inputs."""
    for case in golden("motion_smoothness")[1]["indices"]:
        for batch in (1, 3):
            inputs, compared = run_remembering(case["frames"], batch)
            assert compared == case["predicted_compared_to"]
            if compared:
                assert inputs == case["inputs"]


def run_remembering(num_frames: int, batch: int) -> tuple[list[int], list[int]]:
    from pathlib import Path

    from stg_eval.storage.video import VideoInfo

    used: set[int] = set()

    def network(first, second, middle, eval):
        for image in (*first, *second):
            used.add(round(image[0, 0, 0].item() * 255))
        return {"imgt_pred": torch.zeros_like(first)}  # black: the error is then the frame's own number

    scorer = object.__new__(motion_smoothness.MotionSmoothness)
    scorer._network, scorer._device, scorer._batch = network, "cpu", batch
    scorer.begin(VideoInfo(Path("x"), num_frames, 128, 128, 8.0, "h264"), None)
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * np.ones((1, 128, 128, 3), np.uint8)
    for start in range(0, num_frames, 4):
        scorer.update(frames[start : start + 4])
    scorer.end()
    errors = torch.cat(scorer._sums) / scorer._values if scorer._sums else torch.empty(0)
    return sorted(used), [int(e) for e in errors.tolist()]


def test_imaging_quality_sizes_and_pixels(golden):
    arrays, values = golden("imaging_quality")
    for case in values["sizes"]:
        assert list(imaging_quality.resized(case["h"], case["w"])) == case["longer"]
    assert np.allclose(imaging_quality.preprocess(chw(arrays["wide_in"])).numpy(), arrays["wide_longer"], atol=1e-6)
    blocks = np.repeat(np.repeat(arrays["short_in_blocks8"], 8, 1), 8, 2)
    got = imaging_quality.preprocess(chw(blocks))
    assert np.allclose(got[:, :, ::16, ::16].numpy(), arrays["blocks_longer_sample16"], atol=1e-6)
    assert got.double().sum().item() == pytest.approx(values["blocks_longer"]["sum"], rel=1e-6)


OPTIONS = {
    "patch_size": 32,
    "patch_stride": 32,
    "hse_grid_size": 10,
    "longer_side_lengths": [224, 384],
    "max_seq_len_from_original_res": -1,
}


def test_imaging_quality_keeps_exactly_the_valid_tokens(golden):
    pytest.importorskip("pyiqa")
    arrays, values = golden("imaging_quality")
    for case in values["tokens"]:
        positions = arrays[f"pos_{case['h']}x{case['w']}"]
        kept = musiq.valid_tokens(case["h"], case["w"], 32, [224, 384, None])
        assert kept == np.flatnonzero(positions[:, 2]).tolist()
        assert len(kept) == case["valid"]
        tokens = musiq.tokens(torch.zeros(1, 3, case["h"], case["w"]), OPTIONS)
        assert np.array_equal(tokens[0, :, -3:].numpy(), positions[kept])


def test_imaging_quality_tokens_hold_the_reference_pixels(golden):
    pytest.importorskip("pyiqa")
    arrays, _ = golden("imaging_quality")
    kept = musiq.valid_tokens(48, 64, 32, [224, 384, None])
    tokens = musiq.tokens(chw(arrays["ms_in"]) / 255.0, OPTIONS)[..., :-3].double().numpy()
    assert np.allclose(tokens.sum(-1), arrays["ms_token_sum"][:, kept], atol=1e-2)
    assert np.allclose((tokens**2).sum(-1), arrays["ms_token_sumsq"][:, kept], rtol=1e-5)
    assert np.allclose(tokens[:, [0, -1]], arrays["ms_first_last_token"][:, [0, -1]], atol=1e-5)


@pytest.mark.parametrize("case", ["up", "down"])
def test_aesthetic_quality_pixels(golden, case):
    arrays, values = golden("aesthetic_quality")
    got = clip.preprocess(chw(arrays[f"{case}_in"]))
    assert list(got.shape) == values[case]["shape"]
    assert np.allclose(got[:, :, ::7, ::7].numpy(), arrays[f"{case}_out_sample7"], atol=1e-5)
    assert got.double().sum().item() == pytest.approx(values[case]["sum"], rel=1e-6)


def test_aesthetic_quality_head(golden):
    arrays, values = golden("aesthetic_quality")
    head = torch.nn.Linear(768, 1)
    head.load_state_dict({"weight": torch.from_numpy(arrays["weight"]), "bias": torch.from_numpy(arrays["bias"])})
    with torch.inference_mode():
        scores = aesthetic_quality.frame_scores(torch.from_numpy(arrays["feat"]), head)
    assert np.allclose(scores.numpy(), arrays["frame_scores"], atol=1e-6)
    assert aesthetic_quality.video_score(scores) == pytest.approx(values["head"]["video_score"], abs=1e-6)
