"""What holds on every model: what weighs nothing or never acts is plain CFG, and prefixes are not computed again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from stg_eval.generators.guidance.patching import patched
from stg_eval.methods import SKIPS
from stg_eval.types import StgEvalError

from .conftest import MODELS  # type: ignore[import-not-found]

Bench = Any
LIKE_ANOTHER = ("cogvideox-i2v", "wan22-i2v", "ltx23")
NAMES = [pytest.param(name, marks=pytest.mark.sweep) if name in LIKE_ANOTHER else name for name in MODELS]
METHODS = {name: ("stg-a", "stg-r") if name in ("ltx2", "ltx23") else tuple(SKIPS) for name in MODELS}
"""LTX-2 has two streams, which attention-input and SEG do not know."""


def layer(model: Bench, place: int) -> str:
    """A layer by its published number, the first being at place 0."""
    return str(place + model.model.layer_map.first)


def terms(model: Bench, name: str, window: str) -> str:
    """One of every kind that the model takes, acting in the window."""
    skips = "".join(f"+{method}[{layer(model, 7)}]w1{window}" for method in METHODS[name])
    others = "" if name.startswith("ltx2") else f"+fdg[low=1]{window}+rescale0.7{window}"
    return f"{skips}+stg-r[{layer(model, 4)}]u{window}{others}"


@pytest.fixture(scope="module")
def plain() -> Callable[[str, Bench], Any]:
    """The plain CFG run of a model, made once."""
    made: dict[str, Any] = {}
    return lambda name, model: made.get(name) or made.setdefault(name, model.trajectory(3))


@pytest.mark.parametrize("name", NAMES)
def test_what_weighs_nothing_or_never_acts_is_bit_equal_to_plain_cfg(
    bench: Callable[..., Bench], plain: Callable[..., Any], name: str
) -> None:
    model = bench(name)
    weightless = "".join(f"+{method}[{layer(model, 7)}]w0" for method in METHODS[name])
    assert model.guided(f"cfg3{weightless}{terms(model, name, '@s5-9')}").equals(plain(name, model))


@pytest.mark.parametrize("name", NAMES)
def test_outside_every_window_a_step_is_bit_equal_to_cfg_s_on_the_same_latents(
    bench: Callable[..., Bench], plain: Callable[..., Any], name: str
) -> None:
    """The first step is outside, the second within."""
    model, cfg = bench(name), plain(name, bench(name))
    found = model.guided("cfg3" + terms(model, name, "@0.5-1"))
    assert torch.equal(found.outputs[0], cfg.outputs[0])
    assert torch.equal(found.states[1], cfg.states[1])
    assert not torch.equal(found.outputs[1], cfg.outputs[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_weak_pass_computes_what_lies_behind_its_layer_alone(bench: Callable[..., Bench], name: str) -> None:
    """Two steps: the weak passes run no block before the skipped layer, each behind it once, and itself not at all."""
    model, place, calls = bench(name), 7, Counter()  # type: ignore[var-annotated]
    layers = model.model.layer_map.layers(model.denoiser)
    paths = [path for one in layers for path in one.blocks.values()]

    def counted(path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[path] += 1
            return forward(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for path in paths:
            block = model.denoiser.get_submodule(path)
            stack.enter_context(patched(block, counted(path, block.forward)))
        model.guided(f"cfg3+stg-r[{layer(model, place)}]w1")
    behind = paths.index(list(layers[place].blocks.values())[-1])
    steps = 1 if name in ("wan22", "wan22-i2v") else 2  # its other transformer makes the other step
    cfg = steps * (2 if model.model.model.batch_order == "c,u" else 1)
    assert [calls[path] - cfg for path in paths] == [0] * (behind + 1) + [steps] * (len(paths) - behind - 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_that_a_model_does_not_have_is_one_line_that_names_it(bench: Callable[..., Bench], name: str) -> None:
    model = bench(name)
    beyond = layer(model, len(model.model.layer_map.layers(model.denoiser)))
    for term in (f"stg-r[{beyond}]w1", f"stg-a[{beyond}]w1@0.1-0.9", f"stg-r[{beyond}]u"):
        with pytest.raises(StgEvalError, match=f"no layer '{beyond}': give a number from") as stop:
            model.guided(f"cfg3+stg-r[{layer(model, 2)}]w1+{term}")
        assert str(stop.value).startswith(f"{term}: ")
        assert "\n" not in str(stop.value)
