"""Speed options: skips and shared prefixes stay right, what changes pixels is in the key, the rest is refused."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from stg_eval import generators, suites
from stg_eval.generators.speed import SPEED_SETTINGS, hasten, unsaid
from stg_eval.pipeline.plan import make_plan
from stg_eval.types import Case, Guidance, Request, StgEvalError

RANDOM = "random-weights(seed=0)"
GUIDANCE = ("cfg3", "cfg3+stg-a[3]w1", "cfg3+stg-r[3]w1")


def clips(name: str, **settings: Any) -> np.ndarray:
    model = generators.get(name)
    chosen = {**model.card.settings, **settings}
    loaded = model.load(device="cpu", dtype="float32", weights=RANDOM, settings=chosen)
    asked = [
        Request(
            model=name,
            weights=RANDOM,
            guidance=Guidance.parse(guidance),
            case=Case(id="x", prompt="a red ball"),
            seed=0,
            height=64,
            width=64,
            num_frames=9,
            fps=8.0,
            num_inference_steps=max(1, model.min_steps),
            dtype="float32",
            encoding=model.card.encoding,
            settings=tuple(sorted(chosen.items())),
        )
        for guidance in GUIDANCE
    ]
    return np.stack(loaded.generate(asked))


@pytest.mark.parametrize("name", ["ltx", "wan"])
def test_compiled_blocks_leave_skips_and_shared_prefixes_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the compiler's tracing without its code generation: the very same operators, so the very same bits."""
    plain = clips(name)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    np.testing.assert_array_equal(clips(name, compile=True), plain)
    assert all((plain[0] != one).any() for one in plain[1:])  # the skips are seen


def test_weights_in_eight_bits_and_another_attention_kernel_run_with_skips() -> None:
    plain = clips("ltx")
    eight, other = clips("ltx", quantize="fp8"), clips("ltx", attention="_native_math")
    assert (eight != plain).any()
    assert np.abs(other.astype(int) - plain).max() <= 1
    for made in (eight, other):
        assert all((made[0] != one).any() for one in made[1:])


def test_defaults_are_in_no_request_and_what_is_chosen_is_in_its_key() -> None:
    suite = suites.load("vbench-t2v-full")

    def request(**settings: Any) -> Request:
        return make_plan(suite, "ltx", limit=1, settings=settings, allow_few=True, dry=True).requests["cfg"][0]

    plain = request()
    assert not set(dict(plain.settings)) & set(SPEED_SETTINGS)
    for name, value in {"attention": "native", "compile": "true", "quantize": "fp8"}.items():
        assert request(**{name: value}).key != plain.key
    assert request(offload="group").key == plain.key
    assert unsaid({"offload": "none", **SPEED_SETTINGS}) == {"offload": "none"}


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("ltx", {"compile": True, "offload": "sequential"}, "leave out offload=sequential"),
        ("ltx", {"compile": True, "quantize": "fp8"}, "do not go together"),
        ("ltx", {"quantize": "int3"}, "none or fp8"),
        ("ltx", {"attention": "flash"}, "cannot be used here"),
        ("ltx", {"attention": "quick"}, "cannot be used here"),
        ("mochi", {"attention": "native"}, "has no choice of attention kernels"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name: str, settings: dict[str, Any], said: str) -> None:
    model: Any = generators.get(name)
    pipeline = model.small()
    with pytest.raises(StgEvalError, match=said) as caught:
        hasten([pipeline.transformer], model.layer_map, settings)
    assert "\n" not in str(caught.value)
