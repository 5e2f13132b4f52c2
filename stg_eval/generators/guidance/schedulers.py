"""What wraps a scheduler: rescale (Algorithm 4), Restart (Algorithm 3), and the clean sample a prediction implies.

Noise levels are those of the model's family: sigma of VE latents (x = x0 + sigma eps; SVD's Euler scheduler, 0.002 to
700), or the sigma of flow matching (x = (1 - sigma) x0 + sigma eps; 0 to 1; Mochi, Open-Sora, LTX).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance import equations
from stg_eval.terms import Restart


@contextmanager
def rescaled(scheduler: Any, step_at_work: Callable[[], tuple[Tensor | None, float]]) -> Iterator[None]:
    """Every step's model output is rescaled towards the conditional prediction of that step (Algorithm 4), as far as
    `step_at_work` says: (conditional prediction, amount in [0, 1])."""
    step = scheduler.step

    @functools.wraps(step)
    def rescaled_step(model_output: Tensor, *args: Any, **kwargs: Any) -> Any:
        c, amount = step_at_work()
        assert c is not None, "the scheduler stepped before the denoiser was called"
        if amount:
            model_output = equations.rescale(model_output, c.to(model_output.device), amount)
        return step(model_output, *args, **kwargs)

    with replaced_methods(scheduler, step=rescaled_step):
        yield


@contextmanager
def restarted(scheduler: Any, restart: Restart, generators: Sequence[torch.Generator] | None) -> Iterator[None]:
    """Restart sampling (Algorithm 3): on reaching `low`, noise is added back up to `high` and the interval runs again.

    `scheduler.set_timesteps`, called within the context, lengthens `scheduler.timesteps` by the repeated interval;
    the pipeline's loop just runs longer. The interval is the schedule's own: from the last level at or above `high`
    to the first at or below `low`, and the noise that is added is that between these levels. One generator a sample.
    Raises StgEvalError for a scheduler without known noise levels, and for an interval without a step in it.
    """
    name = type(scheduler).__name__
    if name not in ("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"):
        raise StgEvalError(
            f"restart needs an EulerDiscreteScheduler or a FlowMatchEulerDiscreteScheduler, this model has {name}; "
            "leave restart out"
        )
    if generators is None:
        raise StgEvalError("restart needs one random generator a sample")
    set_timesteps, step = scheduler.set_timesteps, scheduler.step
    order: list[int] = []  # place in the lengthened loop -> index in the scheduler's own schedule
    ends: dict[int, tuple[float, float]] = {}  # place after whose step noise is added -> (from, to) level
    place = 0

    @functools.wraps(set_timesteps)
    def set_and_lengthen(*args: Any, **kwargs: Any) -> None:
        nonlocal place
        set_timesteps(*args, **kwargs)
        levels = noise_levels(scheduler)
        start, stop = _interval(levels, restart)
        again = [*range(start, stop)] * restart.repeats
        order[:] = [*range(stop), *again, *range(stop, len(levels) - 1)]
        ends.clear()
        for k in range(restart.repeats):
            ends[stop - 1 + k * (stop - start)] = (levels[stop], levels[start])
        scheduler.timesteps = scheduler.timesteps[torch.tensor(order, device=scheduler.timesteps.device)]
        place = 0
        scheduler._step_index = 0  # else a repeated first timestep would be looked up as the second of its kind

    @functools.wraps(step)
    def step_and_renoise(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal place
        scheduler._step_index = order[place]
        output = step(model_output, timestep, sample, *args, **kwargs)
        if place in ends:
            low, high = ends[place]
            x = output[0]
            noise = torch.stack(
                [torch.randn(x.shape[1:], generator=g, device=g.device).to(x.device) for g in generators]
            )
            x = renoise(x.float(), noise, low, high, flow="FlowMatch" in name).to(x.dtype)
            output = (x, *output[1:]) if isinstance(output, tuple) else type(output)(**{**output, "prev_sample": x})
        place += 1
        scheduler._step_index = order[place] if place < len(order) else order[-1] + 1
        return output

    with replaced_methods(scheduler, set_timesteps=set_and_lengthen, step=step_and_renoise):
        yield


def renoise(x: Tensor, noise: Tensor, low: float, high: float, *, flow: bool) -> Tensor:
    """Take a sample at noise level `low` up to `high`, with the marginal of that level.

    VE: x + sqrt(high^2 - low^2) noise. Flow matching: r x + sqrt(high^2 - (r low)^2) noise with r = (1-high)/(1-low),
    which scales signal and old noise alike; r x + (1-r) noise, as in public code, has too little variance mid-schedule.
    """
    r = (1 - high) / (1 - low) if flow else 1.0
    return r * x + float((high**2 - (r * low) ** 2) ** 0.5) * noise


def noise_levels(scheduler: Any) -> list[float]:
    """Return the levels before each step and after the last, falling; len(steps) + 1 of them.

    Mochi's scheduler counts the other way (invert_sigmas): its level is 1 - sigma.
    """
    sigmas = scheduler.sigmas.double()
    return [float(x) for x in (1 - sigmas if scheduler.config.get("invert_sigmas") else sigmas)]


def clean_sample_of(scheduler: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function (model output, sample) -> x0 that they imply at the scheduler's current step, in float32.

    All in the shape of the latents. Raises StgEvalError for a scheduler whose formula is not known.
    """
    name, predicts = type(scheduler).__name__, scheduler.config.get("prediction_type")
    flow = name == "FlowMatchEulerDiscreteScheduler"
    if not flow and (name != "EulerDiscreteScheduler" or predicts not in ("v_prediction", "epsilon")):
        raise StgEvalError(
            f"this model has {name}{f' with {predicts}' if predicts else ''}, and one-step predictions are known for "
            "FlowMatchEulerDiscreteScheduler, and EulerDiscreteScheduler with v_prediction or epsilon; take another"
        )

    def clean_sample(model_output: Tensor, sample: Tensor) -> Tensor:
        x, output, index = sample.float(), model_output.float(), scheduler.step_index or 0
        if flow:
            level = noise_levels(scheduler)[index]
            return x + level * output if scheduler.config.get("invert_sigmas") else x - level * output
        sigma = float(scheduler.sigmas[index])
        if predicts == "epsilon":
            return x - sigma * output
        return x / (sigma**2 + 1) - output * float(sigma / (sigma**2 + 1) ** 0.5)

    return clean_sample


def _interval(levels: Sequence[float], restart: Restart) -> tuple[int, int]:
    above = [i for i, level in enumerate(levels) if level >= restart.high]
    below = [i for i, level in enumerate(levels) if level <= restart.low]
    if not above or not below:
        raise StgEvalError(
            f"restart[{restart.low:g},{restart.high:g}] leaves the schedule, whose noise levels run from "
            f"{levels[0]:.4g} down to {levels[-1]:.4g}"
        )
    return above[-1], below[0]


@contextmanager
def replaced_methods(target: Any, **replacements: Any) -> Iterator[None]:
    """Replace methods on the instance; on exit put back what the instance itself held."""
    replacements["__deepcopy__"] = lambda memo: _copied(target, memo)
    before = {name: target.__dict__[name] for name in replacements if name in target.__dict__}
    target.__dict__.update(replacements)
    try:
        yield
    finally:
        for name in replacements:
            if name in before:
                target.__dict__[name] = before[name]
            else:
                del target.__dict__[name]


def _copied(target: Any, memo: dict[int, Any]) -> Any:
    """A deep copy without the methods that were replaced: they act on the original."""
    kept = {
        name: value
        for name, value in target.__dict__.items()
        if name != "__deepcopy__" and not (callable(value) and hasattr(type(target), name))
    }
    made: Any = object.__new__(type(target))
    memo[id(target)] = made
    made.__dict__.update(copy.deepcopy(kept, memo))
    return made
