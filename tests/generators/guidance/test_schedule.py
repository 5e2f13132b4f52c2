"""Terms that act in a part of the run only: inside as ever, outside bit-equal to plain CFG and without a cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from stg_eval import generators
from stg_eval.generators.guidance import LayerMap, guided, stack
from stg_eval.generators.guidance.skips import residual
from stg_eval.methods import PREDICTIONS
from stg_eval.types import Guidance, StgEvalError

ORDERS = ("uc", "cu", "c,u")
STEPS = 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.rows = nn.Linear(8, 8), 0

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.rows += len(x)
        return x + torch.tanh(self.mix(x)) * y[:, None]


class Toy(nn.Module):
    """Tokens [batch, 6, 8] and conditions [batch, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, y)
        return x

    def rows(self) -> list[int]:
        """How many rows each block computed since the last call."""
        found = [block.rows for block in self.blocks]
        for block in self.blocks:
            block.rows = 0
        return found


MAP = LayerMap(model="toy", layers=stack(joint="blocks"), streams=("x",), grid=lambda args, kwargs: (1, 2, 3))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().double().eval()


def predicted(toy: nn.Module, x: Tensor, y: Tensor, no: Tensor, g: float, order: str) -> Tensor:
    """What a pipeline makes of the denoiser's answers at a step, in each batch order."""
    if g == 1:
        return toy(x, y)
    if order == "c,u":
        c, u = toy(x, y), toy(x, no)
    else:
        halves = toy(torch.cat([x, x]), torch.cat([no, y] if order == "uc" else [y, no])).chunk(2)
        u, c = halves if order == "uc" else halves[::-1]
    return u + g * (c - u)


class Run:
    """A pipeline's loop as it is in diffusers, in each batch order. It keeps the latents before each step, what the
    scheduler got, and the rows that each block computed."""

    def __init__(self, toy: Toy, text: str, order: str = "uc", steps: int = STEPS, weaker: Any = None) -> None:
        generator = torch.Generator().manual_seed(1)
        x, y = (torch.randn(*shape, generator=generator).double() for shape in ((2, 6, 8), (2, 8)))
        self.y, self.no = y, torch.full_like(y, 0.1)
        guidance, scheduler = Guidance.parse(text), FlowMatchEulerDiscreteScheduler()
        self.latents, self.outputs, self.after, self.rows = [], [], [], []  # type: ignore[var-annotated]
        g = guidance.cfg_scale
        toy.rows()
        self.g, self.order = g, order
        with guided(
            toy,
            guidance,
            MAP,
            batch_order=order if g != 1 else "c",
            scheduler=scheduler,  # type: ignore[arg-type]
            weaker=[weaker] if weaker else [],
        ) as self.predictions:
            scheduler.set_timesteps(steps)
            for t in scheduler.timesteps:
                output = predicted(toy, x, y, self.no, g, order)
                self.latents.append(x)
                self.outputs.append(output)
                self.rows.append(toy.rows())
                x = scheduler.step(output, t, x, return_dict=False)[0]
                self.after.append(x)

    def plain(self, toy: Toy) -> list[tuple[Tensor, Tensor]]:
        """(c, u) of the unguided denoiser at each step's latents."""
        return [(toy(x, self.y), toy(x, self.no)) for x in self.latents]

    def is_cfg_at(self, toy: Toy, step: int) -> bool:
        """Whether step and latents after it are, bit for bit, those of CFG at the step's latents."""
        x, scheduler = self.latents[step], FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(len(self.outputs))
        output = predicted(toy, x, self.y, self.no, self.g, self.order)
        after = scheduler.step(output, scheduler.timesteps[step], x, return_dict=False)[0]
        return torch.equal(self.outputs[step], output) and torch.equal(self.after[step], after)


def weak(toy: Toy, x: Tensor, y: Tensor, layers: set[int]) -> Tensor:
    """The prediction with whole layers left out."""
    for i, block in enumerate(toy.blocks):
        x = x if i in layers else block(x, y)
    return x


@pytest.mark.parametrize("order", ORDERS)
def test_a_weak_pass_acts_in_its_window_and_costs_nothing_outside(toy: Toy, order: str) -> None:
    run, cfg = Run(toy, "cfg3+stg-r[2]w1@0.2-0.7", order), Run(toy, "cfg3", order)
    for step, (x, (c, u)) in enumerate(zip(run.latents, run.plain(toy), strict=True)):
        inside = step in (1, 2, 3)  # 0.2 <= step / 5 < 0.7
        push = c - weak(toy, x, run.y, {2}) if inside else 0
        torch.testing.assert_close(run.outputs[step], u + 3 * (c - u) + push, rtol=0, atol=1e-6)
        # the weak pass of two samples runs the layer behind the skipped one alone
        assert run.rows[step] == [4, 4, 4, 6 if inside else 4]
    assert torch.equal(run.outputs[0], cfg.outputs[0])


TERMS = ("stg-r[2]w1", "stg-r[2]u", "auto[random-weights(seed=9)]w0.5", "rescale0.7", *sorted(PREDICTIONS))
GUIDER = 'guider:AdaptiveProjectedGuidance{"eta":0.5}'


@pytest.mark.parametrize("order", ORDERS)
def test_what_weighs_nothing_or_never_acts_is_bit_equal_to_cfg(toy: Toy, order: str) -> None:
    nothing = ["stg-r[2]w0", "auto[random-weights(seed=9)]w0", *(f"{term}@s9-12" for term in (*TERMS, GUIDER))]
    for text in nothing:
        run = Run(toy, f"cfg3+{text}", order, weaker=Toy().double() if text.startswith("auto") else None)
        assert all(run.is_cfg_at(toy, step) for step in range(STEPS)), text


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("term", [*TERMS, GUIDER])
def test_outside_its_window_a_term_is_bit_equal_to_cfg_on_the_same_latents(toy: Toy, term: str, order: str) -> None:
    torch.manual_seed(9)
    weaker = Toy().double() if term.startswith("auto") else None
    for window in ("@s1-3", "@0.2-0.6"):
        run = Run(toy, f"cfg3+{term}{window}", order, weaker=weaker)
        assert [run.is_cfg_at(toy, step) for step in range(STEPS)] == [True, False, False, True, True]


@pytest.mark.parametrize("order", ORDERS)
def test_without_cfg_a_step_computes_no_unconditional_rows(toy: Toy, order: str) -> None:
    run = Run(toy, "cfg3@0.3-0.9", order)
    for step, (c, u) in enumerate(run.plain(toy)):
        inside = step in (2, 3, 4)
        assert run.rows[step] == [4 if inside else 2] * 4
        if inside:
            torch.testing.assert_close(run.outputs[step], u + 3 * (c - u), rtol=0, atol=1e-12)
        else:
            assert torch.equal(run.outputs[step], c)


@pytest.mark.parametrize("order", ORDERS)
def test_a_list_gives_each_part_of_the_run_a_scale_of_its_own(toy: Toy, order: str) -> None:
    text = "cfg1,6,2.5@s0-1-3-4+stg-r[0]w2,1@s1-2-5+stg-r[3]w0.5@s2-3+rescale0.5@s0-1"
    run = Run(toy, text, order)
    for step, (x, (c, u)) in enumerate(zip(run.latents, run.plain(toy), strict=True)):
        scale = [1, 6, 6, 2.5, 1][step]
        expected = u + scale * (c - u)
        expected = expected + [0, 2, 1, 1, 1][step] * (c - weak(toy, x, run.y, {0}))
        expected = expected + [0, 0, 0.5, 0, 0][step] * (c - weak(toy, x, run.y, {3}))
        torch.testing.assert_close(run.outputs[step], expected, rtol=0, atol=1e-5)


def test_a_list_by_noise_level_follows_the_scheduler_s_sigmas(toy: Toy) -> None:
    run, scheduler = Run(toy, "cfg4,2@n1-0.61-0.2"), FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    scales = [4 if 1 >= s > 0.61 else 2 if 0.61 >= s > 0.2 else 1 for s in scheduler.sigmas[:-1].tolist()]
    assert sorted(set(scales)) == [1, 2, 4]
    for output, scale, (c, u) in zip(run.outputs, scales, run.plain(toy), strict=True):
        torch.testing.assert_close(output, u + scale * (c - u), rtol=0, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_a_skip_of_the_unconditional_pass_leaves_its_layers_out_of_that_pass_alone(toy: Toy, order: str) -> None:
    run = Run(toy, "cfg3+stg-r[1,2]u@s1-3+stg-r[3]w1", order)
    for step, (x, (c, u)) in enumerate(zip(run.latents, run.plain(toy), strict=True)):
        inside = step in (1, 2)
        u = weak(toy, x, run.no, {1, 2}) if inside else u
        expected = u + 3 * (c - u) + c - weak(toy, x, run.y, {3})
        torch.testing.assert_close(run.outputs[step], expected, rtol=0, atol=1e-6)
        assert run.rows[step] == [4, *([2, 2] if inside else [4, 4]), 4]
    assert toy.blocks[1].__dict__.get("forward") is None


def test_wan_s_skip_layer_guidance_is_the_public_node_s_rule(bench: Callable[[str], Any]) -> None:
    """In the window the unconditional call leaves block 9 out: restated on the stock pipeline."""
    wan, steps = bench("wan"), 4
    block, calls = wan.denoiser.blocks[9], iter(range(10**6))
    stock = block.forward

    def slg(*args: Any, **kwargs: Any) -> Any:
        call = next(calls)  # two calls a step, the conditional one first
        inside = 0.25 <= (call // 2) / steps < 0.75 and call % 2 == 1
        return residual(("hidden_states",))(*args, **kwargs) if inside else stock(*args, **kwargs)

    block.forward = slg
    try:
        expected = wan.trajectory(5, steps=steps)
    finally:
        del block.forward
    found = wan.guided("cfg5+stg-r[9]u@0.25-0.75", steps=steps)
    assert found.equals(expected)
    assert not found.equals(wan.trajectory(5, steps=steps))


def test_wan_2_2_takes_another_scale_on_each_side_of_its_boundary(bench: Callable[[str], Any]) -> None:
    """The vendor's preset, one scale told and the other moved into the prediction, is the pipeline's own two scales."""
    model, steps = bench("wan22"), 4
    vendor = generators.card("wan22").presets["vendor"].guidance
    told = replace(model, model=replace(model.model, call={**model.model.call, "guidance_scale_2": 3.0}))
    expected = told.trajectory(4, steps=steps)
    levels = [float(sigma) for sigma in model.pipeline.scheduler.sigmas[:-1]]
    assert min(levels) < 0.875 < max(levels)
    found = model.guided(str(vendor), steps=steps)
    assert found.relative_distance(expected) < 1e-4
    assert found.relative_distance(model.trajectory(4, steps=steps)) > 1e-2
    # a skip acts in both transformers
    skipped = model.guided("cfg4+stg-r[9]w1", steps=steps)
    first = model.guided("cfg4+stg-r[9]w1@n1-0.875", steps=steps)
    assert not skipped.equals(first)


def test_a_window_by_noise_level_needs_a_scheduler_that_tells_them(toy: Toy) -> None:
    with (
        pytest.raises(StgEvalError, match="DDIMScheduler does not tell noise levels"),
        guided(toy, Guidance.parse("cfg3@n0.9-0.1"), MAP, batch_order="uc", scheduler=DDIMScheduler()),
    ):
        pass


def test_steps_that_restart_repeats_keep_their_place_in_the_window(toy: Toy) -> None:
    """The repeated interval lies within the window or without it as it did the first time."""
    scheduler, seen = FlowMatchEulerDiscreteScheduler(), []
    guidance = Guidance.parse("cfg1+stg-r[1]w1@s2-3+restart[0.4,0.8]x1")
    generators_of_noise = [torch.Generator().manual_seed(0)]
    x, y = torch.randn(1, 6, 8).double(), torch.randn(1, 8).double()
    with guided(
        toy, guidance, MAP, batch_order="c", scheduler=scheduler, generators=generators_of_noise
    ) as predictions:
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            output = toy(x, y)
            seen.append((scheduler.step_index, predictions.delta is not None))
            x = scheduler.step(output, t, x, return_dict=False)[0]
    assert len(seen) > STEPS
    assert any(after < before for (before, _), (after, _) in pairwise(seen[1:]))
    assert all(acted == (index == 2) for index, acted in seen[1:])


@pytest.mark.parametrize(
    ("model", "text", "passes"),
    [
        ("wan", "cfg5", 2),
        ("wan", "cfg5@0.2-0.6", 1 + 20 / 50),
        ("wan", "cfg5+stg-a[8]w1", 2 + 22 / 30),
        ("wan", "cfg5+stg-a[8]w1@0.1-0.9", 2 + 0.8 * 22 / 30),
        ("wan", "cfg5+stg-r[9]u@0.1-0.9", 2 - 0.8 / 30),
        ("mochi", "cfg4.5+stg-r[35]w1@0-0.5+stg-a[40]w1@0.5-1", 2 + 0.5 * 12 / 48 + 0.5 * 8 / 48),
        ("svd", "cfg3+stg-a[8]s2@s0-5", 2 + 5 / 25 * 0.5954),
        ("ltx", "cfg3,6@n1-0.9-0.5", 2),  # levels are the scheduler's: counted as if both acted throughout
    ],
)
def test_a_plan_counts_what_acts(model: str, text: str, passes: float) -> None:
    assert generators.get(model).cost(Guidance.parse(text)) == pytest.approx(passes, abs=1e-9)


@pytest.mark.parametrize("order", ORDERS)
def test_autoguidance_goes_away_from_a_weaker_checkpoint(toy: Toy, order: str) -> None:
    torch.manual_seed(9)
    weaker = Toy().double().eval()
    run = Run(toy, "cfg3+auto[random-weights(seed=9)]w0.5@s1-4+stg-r[3]w1", order, weaker=weaker)
    for step, (x, (c, u)) in enumerate(zip(run.latents, run.plain(toy), strict=True)):
        push = 0.5 * (c - weaker(x, run.y)) if step in (1, 2, 3) else 0
        expected = u + 3 * (c - u) + c - weak(toy, x, run.y, {3}) + push
        torch.testing.assert_close(run.outputs[step], expected, rtol=0, atol=5e-6)
    assert weaker.rows() == [2 * 3 + 2 * 3] * 4  # two samples in three steps, and once more for what was expected
