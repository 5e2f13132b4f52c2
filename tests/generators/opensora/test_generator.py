"""Open-Sora as a generator: paired noise, clips that depend on nothing but their request, and a whole run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from stg_eval.generators.opensora.card import CARD, MODEL
from stg_eval.types import Case, Guidance, Request, StgEvalError

RANDOM = "random-weights(seed=0)"
SETTINGS = {
    "weights": RANDOM,
    "dtype": "float32",
    "height": 40,
    "width": 56,
    "num_frames": 17,
    "num_inference_steps": 2,
}


SMALL = {**MODEL.smoke, "height": 40, "width": 56}  # 5 x 7 latents; no network looks at these clips


def _request(guidance: str = "cfg7", prompt: str = "a cat", seed: int = 0, **changes) -> Request:
    return Request(
        model="opensora",
        guidance=Guidance.parse(guidance),
        case=Case(id=prompt, prompt=prompt),
        seed=seed,
        fps=24.0,
        encoding="vp9-lossless",
        settings=tuple(sorted((dict(CARD.settings) | changes.pop("settings", {})).items())),
        **SMALL | changes,
    )


@pytest.fixture(scope="module")
def generator():
    return MODEL.load(device="cpu", dtype="float32", weights=MODEL.smoke["weights"], settings=CARD.settings)


def test_the_card_is_read_without_torch():
    code = "import sys, stg_eval.generators.opensora.card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_presets_are_the_papers():
    assert {name: str(preset.guidance) for name, preset in CARD.presets.items()} == {
        "none": "cfg1",
        "cfg": "cfg7",
        "stg": "cfg7+stg-a[11]s2t2",
        "stg-r": "cfg7+stg-r[11]s1t1",
    }
    assert CARD.presets["stg"].published["imaging_quality"] == 0.606
    assert CARD.presets["stg-r"].published["temporal_flickering"] == 0.977
    assert MODEL.cost(CARD.presets["none"].guidance) == 1
    assert MODEL.cost(CARD.presets["cfg"].guidance) == 2


def test_a_clip_is_the_same_to_the_bit_in_any_batch(generator):
    requests = [_request(prompt="a cat"), _request(prompt="two dogs"), _request(prompt="a cat", seed=1)]
    together = generator.generate(requests)
    for request, clip in zip(requests, together, strict=True):
        assert clip.shape == (17, 40, 56, 3)
        assert clip.dtype == np.uint8
        np.testing.assert_array_equal(generator.generate([request])[0], clip)
    assert not np.array_equal(together[0], together[2])


def test_what_weighs_nothing_or_never_acts_is_plain_cfg(generator):
    never = "cfg7+stg-a[11]s1t1@s5-9+stg-r[3]u@s5-9+apg@s5-9+rescale0.7@s5-9"
    plain, *others = (generator.generate([_request(text)])[0] for text in ("cfg7", "cfg7+stg-a[11]w0", never))
    assert all(np.array_equal(clip, plain) for clip in others)


def test_a_cfg_clip_is_the_same_before_and_after_skip_guidance(generator):
    before = generator.generate([_request("cfg7")])[0]
    steered = [generator.generate([_request(g)])[0] for g in ("cfg7+stg-a[11]s2t2", "cfg7+stg-r[11]s1t1")]
    np.testing.assert_array_equal(generator.generate([_request("cfg7")])[0], before)
    assert not np.array_equal(steered[0], before)
    assert not np.array_equal(steered[0], steered[1])


def test_every_guidance_starts_from_the_same_noise(generator):
    starts = []
    handle = generator.pipeline.transformer.register_forward_pre_hook(
        lambda module, args: starts.append(args[0][:1].clone())
    )
    for guidance in ("none", "cfg7", "cfg7+stg-a[11]s2t2"):
        generator.generate([_request(guidance, num_inference_steps=1)])
    handle.remove()
    assert len(starts) == 3
    assert all(np.array_equal(start, starts[0]) for start in starts)


def test_scores_in_the_settings_reach_the_prompt(generator):
    plain = generator.generate([_request(settings={"aesthetic_score": None})])[0]
    assert not np.array_equal(plain, generator.generate([_request()])[0])
    written = generator.generate([_request(prompt="a cat", settings={"motion_score": 5.0})])[0]
    assert not np.array_equal(written, generator.generate([_request()])[0])


@pytest.mark.parametrize(
    "guidance", ["cfg7+stg-a[11]s2t2+orth", "cfg7+rescale0.7", "cfg7+seg[11]s2", "cfg7+stg-i[11]t1"]
)
def test_relatives_of_the_guidance_run(generator, guidance):
    clip = generator.generate([_request(guidance)])[0]
    assert not np.array_equal(clip, generator.generate([_request("cfg7")])[0])


def test_restart_runs_its_interval_again(generator):
    calls = []
    handle = generator.pipeline.transformer.register_forward_hook(lambda *_: calls.append(1))
    generator.generate([_request("cfg7+restart[0.5,0.9]x2", num_inference_steps=4)])
    handle.remove()
    assert len(calls) > 4


def test_one_step_views_end_in_the_clip_itself(generator):
    request = _request("cfg7+stg-a[11]s2t2")
    views = generator.one_step_views(request, 1)
    assert set(views) == {"c", "u", "weak-spatial", "weak-temporal", "cfg", "stg"}
    np.testing.assert_allclose(views["stg"], generator.generate([request])[0], atol=1)  # the last step goes to sigma 0
    with pytest.raises(StgEvalError, match="step 2 is not one of the 2 steps"):
        generator.one_step_views(request, 2)


def test_what_open_sora_cannot_show_is_refused(generator):
    with pytest.raises(StgEvalError, match="negative prompt"):
        generator.generate([replace(_request(), case=Case(id="x", prompt="a", negative_prompt="b"))])
    with pytest.raises(StgEvalError, match="cannot make 8 frames"):
        generator.generate([_request(num_frames=8)])
    with pytest.raises(StgEvalError, match="layer '28'"):
        generator.generate([_request("cfg7+stg-a[28]s2")])


def test_settings_that_are_left_out_are_the_cards(tmp_path):
    with pytest.raises(
        StgEvalError, match=str(tmp_path)
    ):  # the transformer's folder is looked at: it lacks nothing else
        MODEL.load(device="cpu", dtype="float32", weights=str(tmp_path), settings={})
    with pytest.raises(StgEvalError, match="dtype is one of float32"):
        MODEL.load(device="cpu", dtype="foo", weights=RANDOM, settings={})


@pytest.mark.parametrize("weights", ["random-weights", "random-weights(small)", "random-weights(full)"])
def test_random_weights_that_are_not_known_say_how_to_write_them(weights):
    with pytest.raises(StgEvalError, match=r"random-weights\(seed=0\) or random-weights\(full,seed=0\)"):
        MODEL.load(device="cpu", dtype="float32", weights=weights, settings=CARD.settings)


def test_a_whole_run_of_random_weights_ends_in_a_table(run_cli, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat on a sofa\ntwo dogs in the rain\n")
    sets = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    answer = run_cli(
        *("run", "--suite", prompts, "--model", "opensora", "--device", "cpu"),
        *("--metrics", "temporal_flickering", "--output", tmp_path / "out", "--store", tmp_path / "store"),
        *sets,
    )
    assert answer.code == 0, answer.err
    rows = [line for line in answer.out.splitlines() if line.startswith("| ")]
    assert any("`cfg7+stg-a[11]s2t2`" in row and row.rstrip().endswith("2 |") for row in rows)
