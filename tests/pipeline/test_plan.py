"""Plans: paired, prefix-stable, and nothing in a key but what changes a pixel."""

from __future__ import annotations

from pathlib import Path

import pytest

from stg_eval import suites
from stg_eval.pipeline.plan import make_plan
from stg_eval.pipeline.requests import weights_identity
from stg_eval.types import Guidance, StgEvalError

DEMO = suites.load("demo")


def test_every_variant_has_the_same_cases_and_seeds_in_the_same_order() -> None:
    plan = make_plan(DEMO, "tiny")
    pairs = {name: [(r.case.id, r.seed) for r in requests] for name, requests in plan.requests.items()}
    assert len(set(map(tuple, pairs.values()))) == 1
    noises = {name: [r.noise_seed for r in requests] for name, requests in plan.requests.items()}
    assert len(set(map(tuple, noises.values()))) == 1
    assert len(set(noises["cfg"])) == len(noises["cfg"]), "no two samples share their noise"


@pytest.mark.parametrize("limit", [1, 13, 64, 191])
def test_a_limited_run_is_a_prefix_of_the_full_run(limit: int) -> None:
    full = make_plan(DEMO, "tiny", allow_few=True).requests["cfg"]
    assert make_plan(DEMO, "tiny", limit=limit, allow_few=True).requests["cfg"] == full[:limit]


def test_the_demo_makes_at_least_192_clips_a_variant_of_all_classes_alike() -> None:
    labels = [r.case.label for r in make_plan(DEMO, "tiny").requests["stg"]]
    assert len(labels) >= 192
    assert {labels.count(label) for label in range(12)} == {len(labels) // 12}


def test_settings_change_requests_and_are_recorded() -> None:
    plan = make_plan(DEMO, "tiny", settings={"num_inference_steps": "5", "batch_size": "7"})
    assert {r.num_inference_steps for r in plan.requests["cfg"]} == {5}
    assert plan.settings == {"num_inference_steps": 5, "batch_size": 7}
    assert {len(batch) for batch in plan.batches("cfg")[:-1]} == {7}
    plain = make_plan(DEMO, "tiny")
    assert plain.requests["cfg"][0].key != plan.requests["cfg"][0].key


def test_batch_size_is_no_part_of_a_key() -> None:
    plain, small = make_plan(DEMO, "tiny"), make_plan(DEMO, "tiny", settings={"batch_size": 3})
    assert [r.key for r in plain.requests["cfg"]] == [r.key for r in small.requests["cfg"]]


def test_offload_reaches_the_model_and_is_no_part_of_a_key() -> None:
    """Who follows the advice of a run that ran out of memory keeps the clips that were finished."""
    prompts = suites.load("demo-100")
    plain, moved = (
        make_plan(prompts, "mochi", limit=2, allow_few=True, settings=settings)
        for settings in ({}, {"offload": "model"})
    )
    assert [r.key for r in plain.requests["cfg"]] == [r.key for r in moved.requests["cfg"]]
    assert {dict(r.settings)["offload"] for r in moved.requests["cfg"]} == {"model"}
    tiled = make_plan(prompts, "mochi", limit=2, allow_few=True, settings={"vae_tiling": "true"})
    assert not {r.key for r in plain.requests["cfg"]} & {r.key for r in tiled.requests["cfg"]}


def test_a_signature_equal_to_a_preset_gets_the_preset_s_key() -> None:
    preset = make_plan(DEMO, "tiny", guidance=["stg"])
    spelled = make_plan(DEMO, "tiny", guidance=[str(preset.variants[0].guidance)])
    assert preset.requests["stg"][0].key == next(iter(spelled.requests.values()))[0].key


@pytest.mark.parametrize("text", ["seg[6]s1", "stg-r[6]w1", "rescale0.5", "cfg2+stg-a[temporal_blocks.6]t1"])
def test_every_signature_is_a_guidance(text: str) -> None:
    (variant,) = make_plan(DEMO, "tiny", guidance=[text]).variants
    assert variant.guidance == Guidance.parse(text)


@pytest.mark.parametrize(
    ("model", "text", "message"),
    [
        ("tiny", "sgt", "unknown guidance 'sgt' for tiny; did you mean 'stg'"),
        ("tiny", "stg-a[8]s1", "no layer '8': give a number from 0 to 7"),
        ("tiny", "stg-a[spatial_blocks.99]s1", "no layer 'spatial_blocks.99'"),
        ("tiny", "stg-a[spatial_blocks.6.attn]s1", "no layer 'spatial_blocks.6.attn'"),
        ("tiny", "stg-a[temporal_blocks.6]s1", "no spatial attention to act on"),
        ("opensora", "stg-a[28]s1", "give a number from 0 to 27"),
        ("mochi", "stg-a[35]s2", r"write stg-a\[35\]w2"),
        ("mochi", "stg-a[48]w2", "give a number from 0 to 47"),
        ("svd", "stg-a[0]s1", "give a number from 1 to 16"),
        ("svd", "stg-a[up_blocks.1.attentions.0.foo]s2", "no layer 'up_blocks.1.attentions.0.foo'"),
        ("svd", "stg-a[up_blocks.1.attentions.0.transformer_blocks.0]t2", "no temporal attention to act on"),
        ("svd", "stg-a[up_blocks.1.attentions.0.temporal_transformer_blocks.0]s2", "no spatial attention to act on"),
        ("mochi", "cfg0.5", "no CFG scale below 1"),
    ],
)
def test_a_guidance_that_the_model_cannot_follow_is_refused_before_any_work(
    model: str, text: str, message: str
) -> None:
    suite = DEMO if model == "tiny" else suites.load("demo-100")
    with pytest.raises(StgEvalError, match=message):
        make_plan(suite, model, guidance=[text], limit=1, allow_few=True)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("svd", {"fps": "7.5"}, "svd takes whole frames a second, not 7.5"),
        ("cogvideox", {"num_frames": "10"}, "makes 1 \\+ a multiple of 8 frames, not 10; try 9"),
        ("cogvideox", {"height": "250"}, "height and width divisible by 16, not 250x720"),
        ("wan", {"num_frames": "9" * 400}, "does not fit"),
    ],
)
def test_a_size_that_the_model_cannot_make_is_refused_before_any_work(
    model: str, settings: dict[str, str], message: str
) -> None:
    suite = suites.load("ucf101-i2v" if model == "svd" else "demo-100")
    with pytest.raises(StgEvalError, match=message):
        make_plan(suite, model, guidance=["cfg"], limit=1, settings=settings, allow_few=True, dry=True)


def test_the_same_guidance_twice_is_refused() -> None:
    preset = make_plan(DEMO, "tiny", guidance=["stg"]).variants[0]
    with pytest.raises(StgEvalError, match="the same"):
        make_plan(DEMO, "tiny", guidance=["stg", str(preset.guidance)])


def test_a_changed_local_checkpoint_is_another_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = weights_identity(str(tmp_path))
    assert before == weights_identity(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert weights_identity(str(tmp_path)) != before
    assert weights_identity("org/model@main") == "org/model@main"
