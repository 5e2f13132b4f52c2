"""The pipeline: the original's trajectories and timesteps, and what a caller may rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import T5Config, T5EncoderModel

from stg_eval.generators.opensora import pipeline
from stg_eval.generators.opensora.pipeline import OpenSoraPipeline
from stg_eval.types import StgEvalError

GOLDEN_LATENTS = (5, 6, 8)  # smaller than the size that the recorded run told the model
SMALL = {"height": 40, "width": 56, "num_frames": 17, "num_inference_steps": 2}


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_thirty_steps_of_guided_sampling_equal_the_original(golden_pipe, golden, monkeypatch):
    data, latents = golden("rflow_trajectory.safetensors"), []
    monkeypatch.setattr(pipeline, "latent_size", lambda *size: GOLDEN_LATENTS)
    outputs = []
    golden_pipe.transformer.register_forward_hook(lambda module, args, output: outputs.append(output))
    final = golden_pipe(
        prompt_embeds=data["t2v/y"].squeeze(1),
        prompt_attention_mask=data["t2v/mask"],
        latents=data["t2v/z_init"],
        height=144,
        width=256,
        num_frames=17,
        output_type="latent",
        callback_on_step_end=lambda pipe, i, t, tensors: latents.append(tensors["latents"]) or tensors,
    ).frames
    assert len(outputs) == 30
    torch.testing.assert_close(outputs[0], data["t2v/model_pred_step0"], rtol=0, atol=2e-5)
    torch.testing.assert_close(outputs[29], data["t2v/model_pred_step29"], rtol=0, atol=1e-4)
    torch.testing.assert_close(latents[14], data["t2v/z_before_step_15"], rtol=0, atol=1e-4)
    torch.testing.assert_close(final, data["t2v/z_final"], rtol=0, atol=1e-4)


def test_given_frames_are_kept_or_edited_as_in_the_original(golden_pipe, golden, monkeypatch):
    data, masks = golden("rflow_trajectory.safetensors"), []
    draws = [data["masked/noise_step_3"], data["masked/noise_step_7"]]  # the steps at which frames join
    monkeypatch.setattr(pipeline, "latent_size", lambda *size: GOLDEN_LATENTS)
    monkeypatch.setattr(pipeline, "randn_tensor", lambda shape, **kwargs: draws.pop(0))
    golden_pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: masks.append(kwargs["frame_mask"]), with_kwargs=True
    )
    final = golden_pipe(
        prompt_embeds=data["masked/y"].squeeze(1),
        prompt_attention_mask=data["masked/mask"],
        latents=data["masked/z_init"],
        frame_mask=data["masked/frame_mask"],
        height=144,
        width=256,
        num_frames=17,
        num_inference_steps=10,
        output_type="latent",
    ).frames
    assert torch.equal(torch.stack(masks), data["masked/x_mask_per_step"])
    torch.testing.assert_close(final, data["masked/z_final"], rtol=0, atol=1e-4)


def _told(pipe, monkeypatch, **call):
    """What the transformer is told at each step: (timestep, fps)."""
    told = []

    def forward(latents, timestep, *args, fps, **kwargs):
        told.append((float(timestep[0]), float(fps[0])))
        return torch.zeros(len(latents), 8, 1, 1, 1)

    monkeypatch.setattr(pipe.transformer, "forward", forward)
    embeds, mask = torch.zeros(1, 4, pipe.transformer.config.caption_channels), torch.ones(1, 4, dtype=torch.long)
    pipe(prompt_embeds=embeds, prompt_attention_mask=mask, output_type="latent", **call)
    return told


def test_the_model_is_told_the_originals_timesteps_in_float32(small_pipe, golden, monkeypatch):
    data = golden("rflow_timesteps.json")
    for case in data["cases"]:
        height, width = case["image_size"]
        told = _told(small_pipe, monkeypatch, height=height, width=width, num_frames=case["num_frames"])
        np.testing.assert_allclose([t for t, _ in told], case["timesteps_args_float32"], rtol=0, atol=5e-4)
    for steps, expected in data["other_step_counts_240p_51f_float32_args"].items():
        told = _told(small_pipe, monkeypatch, num_inference_steps=int(steps))
        np.testing.assert_allclose([t for t, _ in told], expected, rtol=0, atol=5e-4)


def test_one_frame_is_told_120_frames_a_second(small_pipe, monkeypatch):
    assert {fps for _, fps in _told(small_pipe, monkeypatch, num_frames=1, fps=8)} == {120.0}
    assert {fps for _, fps in _told(small_pipe, monkeypatch, num_frames=17, fps=8)} == {8.0}


def test_a_clip_of_odd_latents_comes_out_at_whole_steps_of_eight(small_pipe):
    frames = small_pipe("a cat", **SMALL | {"height": 47, "width": 58, "num_frames": 20}).frames
    assert frames.shape == (1, 20, 40, 56, 3)
    assert frames.dtype == np.float32
    assert 0 <= frames.min() < frames.max() <= 1


def test_an_image_is_one_frame(small_pipe):
    assert small_pipe("a cat", **SMALL | {"num_frames": 1}).frames.shape == (1, 1, 40, 56, 3)


def test_prompt_embeds_give_the_clip_of_their_prompt(small_pipe):
    embeds, mask = small_pipe.encode_prompt("a cat")
    expected = small_pipe("a cat", generator=_seeded(1), **SMALL).frames
    actual = small_pipe(prompt_embeds=embeds, prompt_attention_mask=mask, generator=_seeded(1), **SMALL).frames
    np.testing.assert_array_equal(actual, expected)


def test_each_clip_of_a_batch_follows_its_own_generator(small_pipe):
    both = small_pipe(["a cat", "two dogs"], generator=[_seeded(1), _seeded(2)], **SMALL).frames
    for i, prompt in enumerate(("a cat", "two dogs")):
        alone = small_pipe(prompt, generator=_seeded(i + 1), **SMALL).frames
        np.testing.assert_allclose(both[i], alone[0], atol=1e-4)


def test_the_prompt_and_the_guidance_scale_matter(small_pipe):
    clips = [
        small_pipe(prompt, guidance_scale=scale, generator=_seeded(1), **SMALL).frames
        for prompt, scale in (("a cat", 7.0), ("two dogs", 7.0), ("a cat", 1.0))
    ]
    assert not np.array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


def test_without_guidance_the_unconditional_rows_are_left_out(small_pipe):
    rows = []
    small_pipe.transformer.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    for scale in (7.0, 1.0):
        small_pipe("a cat", guidance_scale=scale, output_type="latent", **SMALL)
    assert rows == [2, 2, 1, 1]


def test_callback_sees_every_step_and_may_change_the_latents(small_pipe):
    steps = []

    def zero(pipe, i, timestep, tensors):
        steps.append(i)
        return {"latents": torch.zeros_like(tensors["latents"])}

    frames = small_pipe("a cat", callback_on_step_end=zero, output_type="latent", **SMALL).frames
    assert steps == [0, 1]
    assert not frames.any()


def test_output_types(small_pipe):
    call = {"prompt": "a cat", **SMALL, "num_inference_steps": 1}
    as_np, as_pt, as_pil = (
        small_pipe(generator=_seeded(1), output_type=kind, **call).frames for kind in ("np", "pt", "pil")
    )
    assert as_pt.shape == (1, 17, 3, 40, 56)
    np.testing.assert_array_equal(as_pt[0].permute(0, 2, 3, 1).numpy(), as_np[0])
    assert as_pil[0][0].size == (56, 40)
    (frames,) = small_pipe(generator=_seeded(1), return_dict=False, **call)
    np.testing.assert_array_equal(frames, as_np)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "give either prompt or prompt_embeds"),
        ({"prompt": "a", "prompt_embeds": torch.zeros(1, 4, 32)}, "give either prompt or prompt_embeds"),
        ({"prompt_embeds": torch.zeros(1, 4, 32)}, "give prompt_attention_mask with prompt_embeds"),
        (
            {"prompt_embeds": torch.zeros(1, 301, 32), "prompt_attention_mask": torch.ones(1, 301)},
            "hold 301 tokens, the model reads 300 at most",
        ),
        ({"prompt": "a", "num_frames": 16}, "cannot make 16 frames"),
        ({"prompt": "a", "height": 7}, "at least 8"),
        (
            {"prompt": "a", "latents": torch.zeros(1, 4, 1, 5, 7)},
            r"are \[1, 4, 1, 5, 7\], this clip needs \[1, 4, 5, 5, 7\]",
        ),
        ({"prompt": "a", "generator": [_seeded(1), _seeded(2)]}, "2 generators for 1 clips"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_one_line(small_pipe, call, message):
    with pytest.raises(StgEvalError, match=message) as error:
        small_pipe(**SMALL | call)
    assert "\n" not in str(error.value)


def test_a_pipeline_without_text_encoder_asks_for_embeddings(golden_pipe):
    with pytest.raises(StgEvalError, match="give prompt_embeds and prompt_attention_mask"):
        golden_pipe("a cat")


def test_a_text_encoder_of_another_width_is_refused(golden_pipe):
    parts = golden_pipe.components | {"text_encoder": T5EncoderModel(T5Config(d_model=8, d_ff=8, d_kv=2, num_layers=1))}
    with pytest.raises(StgEvalError, match=r"gives 8 features a token and the model reads 32; .* T5-v1\.1-XXL"):
        OpenSoraPipeline(**parts)
