"""Where in its run a pipeline is: told by its scheduler, for terms that act within a window."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance.schedulers import noise_levels, replaced_methods
from stg_eval.terms import Moment


@contextmanager
def clock(scheduler: Any, *, by_noise_level: bool) -> Iterator[Callable[[], Moment]]:
    """Gives the function that tells the moment of the step at work. Steps that Restart repeats are their first selves.

    Raises StgEvalError for a scheduler without noise levels where `by_noise_level` asks for them.
    """
    if by_noise_level and not hasattr(scheduler, "sigmas"):
        raise StgEvalError(
            f"{type(scheduler).__name__} does not tell noise levels; write the window as fractions of the steps, "
            "such as @0.1-0.9"
        )
    set_timesteps, step, made = scheduler.set_timesteps, scheduler.step, 0

    @functools.wraps(set_timesteps)
    def beginning(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made = 0
        return set_timesteps(*args, **kwargs)

    @functools.wraps(step)
    def stepping(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made += 1
        return step(*args, **kwargs)

    def now() -> Moment:
        index = getattr(scheduler, "step_index", None)
        index = made if index is None else int(index)
        level = noise_levels(scheduler)[index] if by_noise_level else None
        return Moment(index, int(scheduler.num_inference_steps), level)

    with replaced_methods(scheduler, set_timesteps=beginning, step=stepping):
        yield now
