"""Rescale and Restart around the real schedulers, and the noise that Restart adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance.schedulers import clean_sample_of, noise_levels, renoise, restarted
from stg_eval.terms import Restart

Bench = Any


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.3, 1.0), (2.0, 10.0), (0.1, 700.0)])
def test_ve_renoised_samples_have_the_variance_of_the_target_level(low: float, high: float) -> None:
    data = 0.5
    x = data * normal(400_000, 0) + low * normal(400_000, 1)
    out = renoise(x, normal(400_000, 2), low, high, flow=False)
    assert float(out.var()) == pytest.approx(data**2 + high**2, rel=0.01)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.3, 0.6), (0.5, 0.9), (0.2, 1.0)])
def test_flow_renoised_samples_have_the_variance_of_the_target_level_mid_schedule_too(low: float, high: float) -> None:
    data = 1.3
    x0, noise = data * normal(400_000, 0), normal(400_000, 1)
    out = renoise((1 - low) * x0 + low * noise, normal(400_000, 2), low, high, flow=True)
    assert float(out.var()) == pytest.approx(((1 - high) * data) ** 2 + high**2, rel=0.01)
    # and the signal's share is that of the level, not only the total
    assert float((out * x0).mean() / x0.var()) == pytest.approx(1 - high, abs=0.01)


def euler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(use_karras_sigmas=True, prediction_type="v_prediction", timestep_type="continuous")


SCHEDULERS: dict[str, Callable[[], Any]] = {
    "ve": euler,
    "flow": FlowMatchEulerDiscreteScheduler,
    "mochi": lambda: FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
}


def run(scheduler: Any, restart: Restart | None, seed: int = 5) -> tuple[list[float], torch.Tensor]:
    """A pipeline's loop with a made-up model: (noise level at each call, last latents)."""
    x = normal(2 * 3 * 4, 7).reshape(2, 3, 4).float()

    def loop() -> tuple[list[float], torch.Tensor]:
        latents, seen = x.clone(), []
        scheduler.set_timesteps(10)
        for t in scheduler.timesteps:
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(latents, t)
            index = scheduler.step_index if scheduler.step_index is not None else 0
            seen.append(noise_levels(scheduler)[index])
            latents = scheduler.step(torch.tanh(latents), t, latents, return_dict=False)[0]
        return seen, latents

    if restart is None:
        return loop()
    with restarted(scheduler, restart, [torch.Generator().manual_seed(seed + i) for i in range(2)]):
        return loop()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_restart_repeats_its_interval_of_the_schedule(name: str) -> None:
    plain, _ = run(SCHEDULERS[name](), None)
    levels = [*plain, 0.0]
    seen, _ = run(SCHEDULERS[name](), Restart(levels[7], levels[3], 2))
    assert seen == [*plain[:7], *plain[3:7], *plain[3:7], *plain[7:]]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_restart_from_the_very_start_to_the_very_end(name: str) -> None:
    plain, _ = run(SCHEDULERS[name](), None)
    seen, latents = run(SCHEDULERS[name](), Restart(0.0, plain[0], 1))
    assert seen == [*plain, *plain]
    assert torch.isfinite(latents).all()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_repeats_are_bit_equal_to_no_restart(name: str) -> None:
    plain, latents = run(SCHEDULERS[name](), None)
    seen, same = run(SCHEDULERS[name](), Restart(plain[7], plain[3], 0))
    assert seen == plain
    assert torch.equal(latents, same)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_each_sample_draws_restart_noise_from_its_own_generator(name: str) -> None:
    plain, _ = run(SCHEDULERS[name](), None)
    restart = Restart(plain[7], plain[3], 1)
    _, one = run(SCHEDULERS[name](), restart, seed=5)
    _, other = run(SCHEDULERS[name](), restart, seed=6)  # its first sample's generator is the other's second
    assert not torch.equal(one[0], other[0])
    scheduler = SCHEDULERS[name]()
    _, again = run(scheduler, restart, seed=5)
    assert torch.equal(one, again)
    run(scheduler, None)
    assert "step" not in scheduler.__dict__
    assert "set_timesteps" not in scheduler.__dict__
    assert len(scheduler.timesteps) == 10


def test_restart_adds_the_noise_of_the_levels_it_went_between() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    levels = noise_levels(scheduler)
    x = normal(12, 0).reshape(1, 3, 4).float()
    with restarted(scheduler, Restart(0.42, 0.68, 1), [torch.Generator().manual_seed(3)]):
        scheduler.set_timesteps(10)
        for i, t in enumerate(scheduler.timesteps):  # noqa: B007 (read after the break)
            out = scheduler.step(torch.zeros_like(x), t, x, return_dict=False)[0]
            if not torch.equal(out, x):
                break
    high = min(level for level in levels if level >= 0.68)
    low = max(level for level in levels if level <= 0.42)
    assert levels[i] > low == levels[i + 1]
    noise = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(out, renoise(x, noise, low, high, flow=True))


def test_restart_outside_the_schedule_or_on_another_scheduler_is_refused() -> None:
    with pytest.raises(StgEvalError, match="noise levels run from 1 down to 0"):
        run(FlowMatchEulerDiscreteScheduler(), Restart(0.5, 3.0, 1))
    with pytest.raises(StgEvalError, match="UniPCMultistepScheduler"):
        run(UniPCMultistepScheduler(), Restart(0.1, 0.5, 1))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_clean_sample_of_the_true_prediction_is_the_data(name: str) -> None:
    scheduler = SCHEDULERS[name]()
    scheduler.set_timesteps(10)
    x0, noise = normal(20, 0).reshape(1, 20), normal(20, 1).reshape(1, 20)
    for _ in range(3):
        level = noise_levels(scheduler)[scheduler.step_index or 0]
        if name == "ve":
            x = x0 + level * noise
            output = (noise - level * x0) / (1 + level**2) ** 0.5  # v of the scaled sample
        else:
            x = (1 - level) * x0 + level * noise
            output = x0 - noise if name == "mochi" else noise - x0
        torch.testing.assert_close(clean_sample_of(scheduler)(output, x), x0.float(), rtol=1e-4, atol=2e-4)
        scheduler.step(output, scheduler.timesteps[scheduler.step_index or 0], x)


def test_rescaled_pipeline_equals_rescaling_by_hand(bench: Callable[[str], Bench]) -> None:
    mochi = bench("mochi")
    halves: list[torch.Tensor] = []
    handle = mochi.denoiser.register_forward_hook(lambda module, args, output: halves.append(output[0].chunk(2)[1]))

    def by_hand(pred: torch.Tensor) -> torch.Tensor:
        c = halves.pop().float()
        rows = [p * (0.7 * c[i].std() / p.std() + 0.3) for i, p in enumerate(pred)]
        return torch.stack(rows)

    try:
        expected = mochi.trajectory(4.5, batch=2, replace=by_hand)
    finally:
        handle.remove()
    found = mochi.guided("cfg4.5+rescale0.7", batch=2)
    torch.testing.assert_close(found.latents, expected.latents, rtol=0, atol=1e-5)
    assert not torch.equal(found.latents, mochi.trajectory(4.5, batch=2).latents)


@pytest.mark.parametrize(("name", "restart"), [("svd", "restart[0.01,100]x0"), ("mochi", "restart[0.2,0.99]x0")])
def test_pipeline_with_no_repeats_is_bit_equal_to_none(bench: Callable[[str], Bench], name: str, restart: str) -> None:
    model = bench(name)
    assert model.guided(f"cfg3+{restart}").equals(model.trajectory(3))


@pytest.mark.parametrize(("name", "restart"), [("svd", "restart[0.01,100]x2"), ("mochi", "restart[0.2,0.99]x2")])
def test_pipeline_with_restart_runs_the_repeated_steps_and_leaves_nothing_behind(
    bench: Callable[[str], Bench], name: str, restart: str
) -> None:
    model = bench(name)
    before = model.trajectory(3, steps=4)
    found = model.guided(f"cfg3+{restart}", steps=4)
    assert len(found.outputs) > 4
    assert torch.isfinite(found.latents).all()
    assert not found.equals(before)
    assert model.trajectory(3, steps=4).equals(before)
