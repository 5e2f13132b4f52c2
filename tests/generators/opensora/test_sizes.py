"""Sizes against the original's tables, and lengths that its schedule cannot make."""

from __future__ import annotations

import pytest

from stg_eval.generators.opensora.sizes import image_size, latent_size, timestep_shift
from stg_eval.types import StgEvalError


def test_trained_sizes_and_their_latents_equal_the_original(golden):
    rows = golden("shapes.json")["sizes"]
    assert len(rows) == 105
    for row in rows:
        size = image_size(row["resolution"], row["aspect_ratio"])
        assert size == (row["height"], row["width"])
        assert list(latent_size(51, *size)) == row["latent_51f"]
        assert [8 * side for side in latent_size(51, *size)[1:]] == row["decoded_hw"]


def test_latent_frames_equal_the_original(golden):
    for row in golden("shapes.json")["latent_frames"]:
        assert latent_size(row["num_frames"], 240, 426)[0] == row["latent_frames"]


def test_timestep_shift_equals_the_original(golden):
    for case in golden("rflow_timesteps.json")["cases"]:
        assert timestep_shift(case["num_frames"], *case["image_size"]) == pytest.approx(case["ratio_float32"], rel=1e-6)


@pytest.mark.parametrize("num_frames", [-1, 0, 2, 4, 16])
def test_lengths_without_a_schedule_are_refused_in_one_line(num_frames):
    with pytest.raises(StgEvalError, match=f"cannot make {num_frames} frames: .* 17 or more") as error:
        timestep_shift(num_frames, 240, 426)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("resolution", "ratio"), [("240", "9:16"), ("240p", "16:10"), ("512", "9:16")])
def test_an_untrained_size_names_the_trained_ones(resolution, ratio):
    with pytest.raises(StgEvalError, match="144p, 240p, 360p"):
        image_size(resolution, ratio)
