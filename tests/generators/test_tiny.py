"""The embedded model: its promises as a generator, and what its weights are worth."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stg_eval.datasets import sprites
from stg_eval.generators.tiny import weak
from stg_eval.generators.tiny.card import CARD, MODEL, Tiny
from stg_eval.generators.tiny.generator import TinyGenerator
from stg_eval.generators.tiny.model import TinyDiT
from stg_eval.generators.tiny.weights import WEAK, WEIGHTS
from stg_eval.metrics import sprites_c3d
from stg_eval.types import Case, Guidance, Request, StgEvalError

CASES = tuple(sprites.cases())


@pytest.fixture(scope="module")
def tiny() -> TinyGenerator:
    return MODEL.load(device="cpu", dtype="float32", weights=CARD.weights, settings={})  # type: ignore[return-value]


def request(guidance: str, number: int = 0, *, steps: int = 3, seed: int = 500) -> Request:
    """Few steps: the promises below hold for any number."""
    preset = CARD.presets.get(guidance)
    return Request(
        model="tiny",
        weights=CARD.weights,
        guidance=preset.guidance if preset else Guidance.parse(guidance),
        case=CASES[number % 12],
        seed=seed + number // 12,
        height=CARD.height,
        width=CARD.width,
        num_frames=CARD.num_frames,
        fps=CARD.fps,
        num_inference_steps=steps,
        dtype=CARD.dtype,
        encoding=CARD.encoding,
    )


@pytest.mark.parametrize("guidance", ["none", "cfg", "cfg2+stg-a[4]s0.5t0.5", "cfg2+stg-r[5]s1t1"])
def test_a_clip_is_the_same_alone_in_7_and_in_32(tiny: TinyGenerator, guidance: str) -> None:
    requests = [request(guidance, i) for i in range(32)]
    in_32 = tiny.generate(requests)
    in_7 = tiny.generate(requests[3:10])
    alone = tiny.generate([requests[5]])
    assert in_32[5].shape == (8, 16, 16, 3)
    assert in_32[5].dtype == np.uint8
    for other in (in_7[2], alone[0]):
        assert np.abs(in_32[5].astype(int) - other.astype(int)).max() <= 1


def test_guidance_leaves_no_trace(tiny: TinyGenerator) -> None:
    before = tiny.generate([request("cfg", i) for i in range(3)])
    tiny.generate([request("stg", i) for i in range(3)])
    tiny.generate([request("cfg2+stg-r[3]s1t1+rescale0.7", i) for i in range(3)])
    after = tiny.generate([request("cfg", i) for i in range(3)])
    np.testing.assert_array_equal(before, after)


def test_what_weighs_nothing_or_never_acts_is_plain_cfg(tiny: TinyGenerator) -> None:
    plain = tiny.generate([request("cfg2", 0)])
    for term in ("stg-a[6]w0", "stg-a[6]s1t1@s50-90+stg-r[3]u@s50-90+apg@s50-90+rescale0.7@s50-90"):
        np.testing.assert_array_equal(tiny.generate([request(f"cfg2+{term}", 0)]), plain)


def test_every_guidance_starts_from_the_same_noise(tiny: TinyGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, torch.Tensor] = {}
    forward = TinyDiT.forward
    for guidance in ("none", "cfg", "stg"):

        def spy(self: TinyDiT, latents: torch.Tensor, *args: torch.Tensor, name: str = guidance) -> torch.Tensor:
            seen.setdefault(name, latents[-1])
            return forward(self, latents, *args)

        monkeypatch.setattr(TinyDiT, "forward", spy)
        tiny.generate([request(guidance)])
    expected = torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(request("cfg").noise_seed))
    for noise in seen.values():
        torch.testing.assert_close(noise, expected, rtol=0, atol=0)


def test_sampling_is_eulers_method_on_the_guided_velocity(tiny: TinyGenerator) -> None:
    """Against the loop written out: x moves from level s to s - 1/N along u + g (c - u)."""
    wanted = request("cfg3", steps=5)
    x = torch.randn(1, 3, 8, 16, 16, generator=torch.Generator().manual_seed(wanted.noise_seed))
    with torch.inference_mode():
        for i in range(5):
            level = torch.tensor([1 - i / 5])
            u = tiny.denoiser(x, level, torch.tensor([12]))
            c = tiny.denoiser(x, level, torch.tensor([0]))
            x = x - (u + 3 * (c - u)) / 5
    frames = ((x[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()
    assert np.abs(frames - tiny.generate([wanted])[0]).max() <= 1


def test_without_guidance_the_denoiser_sees_no_null_class(tiny: TinyGenerator) -> None:
    rows: list[int] = []
    handle = tiny.denoiser.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        tiny.generate([request("none"), request("none", 1)])
        tiny.generate([request("cfg"), request("cfg", 1)])
    finally:
        handle.remove()
    assert rows == [2] * 3 + [4] * 3  # once a step, as a diffusers pipeline does


def test_the_null_class_is_a_prediction_of_its_own(tiny: TinyGenerator) -> None:
    x, level = torch.randn(12, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0)), torch.full((12,), 0.9)
    with torch.inference_mode():
        null = tiny.denoiser(x, level, torch.full((12,), 12))
        classes = tiny.denoiser(x, level, torch.arange(12))
    assert (null - classes).square().mean((1, 2, 3, 4)).min() > 1e-4


def test_names_of_its_clips_are_right(tiny: TinyGenerator) -> None:
    """24 clips at the card's own settings, on seeds that were used for no choice."""
    requests = [request("cfg", i, steps=CARD.num_inference_steps, seed=700) for i in range(24)]
    clips = np.stack(tiny.generate(requests))
    with torch.inference_mode():
        _, logits = sprites_c3d.load()(torch.from_numpy(clips))
    assert np.mean(logits.argmax(1).numpy() == [r.case.label for r in requests]) >= 0.85


def test_restart_and_rescale_and_seg_run_on_it(tiny: TinyGenerator) -> None:
    plain = tiny.generate([request("stg", steps=8)])[0]
    layer = CARD.presets["stg"].guidance.layers[0]
    for extra in (
        f"cfg2+stg-a[{layer}]s1t1+restart[0.25,0.5]x1",
        f"cfg2+stg-a[{layer}]s1t1+rescale0.7",
        f"cfg2+seg[{layer}]s1t1",
    ):
        clip = tiny.generate([request(extra, steps=8)])[0]
        assert clip.shape == plain.shape
        assert (clip != plain).any()


JOINT = ("cfg2+stg-r[6]w1", "cfg2+stg-a[temporal_blocks.5]w1", "cfg2+stg-r[spatial_blocks.2,4]s1", "cfg2+seg[3,6]s1t1")


def test_cost_counts_the_blocks_that_run(tiny: TinyGenerator) -> None:
    """Counted by hooks on the MLPs: two of them are one layer, 16 are a pass."""
    for text in ("none", "cfg", "stg", "cfg3+stg-a[6]s1", "cfg3+stg-a[2]t1", "cfg1+stg-a[0]s1t1", *JOINT):
        rows: list[int] = []

        def count(module: torch.nn.Module, args: object, output: torch.Tensor, rows: list[int] = rows) -> None:
            rows.append(len(output))

        handles = [
            block.mlp.register_forward_hook(count)
            for blocks in (tiny.denoiser.spatial_blocks, tiny.denoiser.temporal_blocks)
            for block in blocks
        ]
        try:
            tiny.generate([request(text, steps=2)])
        finally:
            for handle in handles:
                handle.remove()
        assert sum(rows) / 16 / 2 == pytest.approx(MODEL.cost(request(text).guidance)), text


def test_weights_are_small_half_precision_and_in_the_key(tiny: TinyGenerator) -> None:
    assert WEIGHTS.stat().st_size <= 5_000_000
    weights = load_file(WEIGHTS)
    assert {value.dtype for value in weights.values()} == {torch.float16}
    assert 300_000 <= sum(value.numel() for value in weights.values()) <= 2_000_000
    assert request("cfg").key != replace(request("cfg"), weights="embedded@another").key


def test_the_card_needs_no_torch() -> None:
    code = "import sys, json, stg_eval.generators.tiny.card; print(json.dumps('torch' in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) is False


def test_bad_input_is_one_line(tiny: TinyGenerator, tmp_path: Path) -> None:
    with pytest.raises(StgEvalError, match="8 frames, 16 x 16"):
        tiny.generate([replace(request("cfg"), height=32)])
    with pytest.raises(StgEvalError, match="from 0 to 11"):
        tiny.generate([replace(request("cfg"), case=Case(id="cat", prompt="a cat"))])
    with pytest.raises(StgEvalError, match="no layer '9'"):
        tiny.generate([request("cfg2+stg-a[9]s1t1")])
    with pytest.raises(StgEvalError, match="no settings"):
        MODEL.load(device="cpu", dtype="float32", weights=CARD.weights, settings={"speed": 2})
    with pytest.raises(StgEvalError, match="dtype is one of float32"):
        MODEL.load(device="cpu", dtype="foo", weights=CARD.weights, settings={})
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    for path in (tmp_path / "absent.safetensors", tmp_path / "other.safetensors"):
        with pytest.raises(StgEvalError, match="tiny"):
            MODEL.load(device="cpu", dtype="float32", weights=str(path), settings={})


def test_a_clip_that_is_not_finite_is_an_error_in_its_place(tiny: TinyGenerator) -> None:
    def spoil(module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        return torch.cat([output[:1] * torch.nan, output[1:]])

    handle = tiny.denoiser.register_forward_hook(spoil)
    try:
        first, second = tiny.generate([request("none"), request("none", 1)])
    finally:
        handle.remove()
    assert isinstance(first, StgEvalError)
    assert isinstance(second, np.ndarray)


@pytest.mark.parametrize("model", [MODEL, weak.MODEL], ids=["tiny", "tiny-weak"])
def test_card_says_what_a_pass_costs(model: Tiny) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _load(model).denoiser(torch.zeros(1, 3, 8, 16, 16), torch.ones(1), torch.zeros(1, dtype=torch.int64))
    assert counter.get_total_flops() / 1e12 == pytest.approx(model.card.tflops_per_pass, rel=0.03)


def test_the_unfinished_model_is_another_network_and_small_enough_to_ship() -> None:
    finished, unfinished = (_load(model).denoiser.config for model in (MODEL, weak.MODEL))
    assert unfinished.hidden_size < finished.hidden_size
    assert weak.MODEL.card.weights != CARD.weights
    assert WEAK.stat().st_size < 5e6


def test_autoguidance_goes_away_from_the_unfinished_model(tiny: TinyGenerator) -> None:
    for weights, pushed in ((weak.MODEL.card.weights, True), (CARD.weights, False)):
        plain, found = (tiny.generate([request(f"cfg2{term}")])[0] for term in ("", f"+auto[{weights}]w1"))
        assert (np.abs(plain.astype(int) - found).max() > 1) == pushed


def _load(model: Tiny) -> TinyGenerator:
    return model.load(device="cpu", dtype="float32", weights=model.card.weights, settings={})  # type: ignore[return-value]


def test_autoguidance_loads_the_checkpoint_that_its_signature_pins(tiny: TinyGenerator, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    worse = {k: v + 0.02 * torch.randn(v.shape, generator=generator).half() for k, v in load_file(WEIGHTS).items()}
    save_file(worse, tmp_path / "worse.safetensors")
    own = f"{WEIGHTS}@{CARD.weights.partition('@')[2]}"
    digest = hashlib.sha256((tmp_path / "worse.safetensors").read_bytes()).hexdigest()
    plain, pushed, same = (
        tiny.generate([request(f"cfg2{term}")])[0]
        for term in (
            "",
            f"+auto[{tmp_path}/worse.safetensors@{digest[:10]}]w1",
            f"+auto[{own}]w1",
        )
    )
    assert np.abs(plain.astype(int) - pushed).max() > 1
    assert np.abs(plain.astype(int) - same).max() <= 1  # from itself there is no way to go, but for the batch's noise
    with pytest.raises(StgEvalError, match=rf"not 01234567; write auto\[.*worse.safetensors@{digest[:12]}\]"):
        tiny.generate([request(f"cfg2+auto[{tmp_path}/worse.safetensors@01234567]w1")])
    with pytest.raises(StgEvalError, match="there is no file"):
        tiny.generate([request("cfg2+auto[gone.safetensors@01234567]w1")])
