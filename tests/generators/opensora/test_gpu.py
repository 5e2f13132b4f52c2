"""What needs a CUDA device: the clip is the CPU's, and offloading changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stg_eval.generators.opensora.small import small_pipeline

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def _clip(pipe):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipe("a cat", height=40, width=56, num_frames=17, num_inference_steps=2, generator=generator).frames


def test_the_clip_is_that_of_the_cpu(small_pipe):
    expected = _clip(small_pipe)
    pipe = small_pipeline("random-weights(seed=0)", torch.float32).to("cuda")
    np.testing.assert_allclose(_clip(pipe), expected, atol=5e-3)


@pytest.mark.parametrize("how", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_offloading_changes_no_pixel(how):
    expected = _clip(small_pipeline("random-weights(seed=0)", torch.bfloat16).to("cuda"))
    pipe = small_pipeline("random-weights(seed=0)", torch.bfloat16)
    getattr(pipe, how)(device="cuda")
    np.testing.assert_array_equal(_clip(pipe), expected)
