"""Skip guidance on STDiT3: the reference perturbations through the engine, prefix sharing, and what a step costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from stg_eval.generators.guidance import guided
from stg_eval.generators.opensora.card import CARD, MODEL
from stg_eval.generators.opensora.sizes import latent_size
from stg_eval.generators.opensora.stdit3 import STDiT3
from stg_eval.types import Guidance

METHODS = {"residual_skip": "stg-r", "attention_identity": "stg-a"}
KINDS = {"spatial": "s1", "temporal": "t1", "both": "w1"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share_prefix", [True, False])
def test_weak_predictions_equal_the_reference(stdit3, golden, inputs, method, kind, share_prefix):
    guidance = Guidance.parse(f"cfg1+{METHODS[method]}[2]{KINDS[kind]}")
    with guided(stdit3, guidance, MODEL.layer_map, batch_order="c", share_prefix=share_prefix) as predictions:
        stdit3(**inputs("basic"))
    expected = golden("skip_layer_extras.safetensors")[f"{method}/{kind}/out"][:, :4]
    (weak,) = predictions.weak.values()
    torch.testing.assert_close(weak, expected, rtol=0, atol=2e-5)


def _random_call(rows: int) -> dict:
    generator = torch.Generator().manual_seed(rows)
    return {
        "hidden_states": torch.randn(rows, 4, 3, 5, 6, generator=generator),
        "timestep": torch.rand(rows, generator=generator) * 1000,
        "encoder_hidden_states": torch.randn(rows, 12, 32, generator=generator),
        "encoder_attention_mask": torch.randint(0, 2, (rows, 12), generator=generator).index_fill(
            1, torch.tensor([0]), 1
        ),
        "fps": torch.full((rows,), 24.0),
        "height": 40,
        "width": 48,
    }


@settings(max_examples=12, deadline=None)
@given(
    layer=st.integers(0, 3),
    method=st.sampled_from(["stg-a", "stg-r", "stg-i", "seg"]),
    scales=st.sampled_from(["s2", "t2", "s2t1", "w1"]),
    samples=st.integers(1, 2),
)
def test_sharing_the_prefix_equals_full_weak_passes(request, layer, method, scales, samples):
    stdit3 = request.getfixturevalue("stdit3")
    guidance, outputs = Guidance.parse(f"cfg7+{method}[{layer}]{scales}"), []
    for share_prefix in (True, False):
        with guided(stdit3, guidance, MODEL.layer_map, batch_order="cu", share_prefix=share_prefix):
            outputs.append(stdit3(**_random_call(2 * samples)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-5)


def test_guidance_adds_the_skip_term_of_the_conditional_rows_to_both_halves(stdit3):
    call = _random_call(4)
    strong = stdit3(**call)
    with guided(stdit3, Guidance.parse("cfg7+stg-a[1]s2t3"), MODEL.layer_map, batch_order="cu") as predictions:
        steered = stdit3(**call)
    c, u, weak = strong[:2, :4], strong[2:, :4], predictions.weak
    delta = 2 * (c - weak["spatial"]) + 3 * (c - weak["temporal"])
    assert delta.abs().max() > 0.1
    torch.testing.assert_close(steered[:, :4], torch.cat([c + delta, u + delta]), rtol=0, atol=1e-5)
    torch.testing.assert_close(stdit3(**call), strong, rtol=0, atol=0)


def test_a_guided_step_of_the_full_size_model_costs_at_most_1_613_of_cfg():
    with torch.device("meta"):
        model = STDiT3()
        call = {
            "hidden_states": torch.empty(2, 4, *latent_size(CARD.num_frames, CARD.height, CARD.width)),
            "timestep": torch.empty(2),
            "encoder_hidden_states": torch.empty(2, 300, 4096),
            "fps": torch.empty(2),
        }
    flops = {}
    for name in ("cfg", "stg"):
        guidance = CARD.presets[name].guidance
        with (
            torch.no_grad(),
            guided(model, guidance, MODEL.layer_map, batch_order="cu"),
            FlopCounterMode(display=False) as counter,
        ):
            model(**call, height=CARD.height, width=CARD.width)
        flops[name] = counter.get_total_flops()
    assert flops["cfg"] / 2e12 == pytest.approx(CARD.tflops_per_pass, rel=0.01)
    assert 1.5 < flops["stg"] / flops["cfg"] <= 1.613
    assert MODEL.cost(CARD.presets["stg"].guidance) == pytest.approx(2 * flops["stg"] / flops["cfg"], rel=0.01)
