"""One-step predictions (Fig. 18 and 19): what c, u, the weak passes, CFG and STG each see at one step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from stg_eval.generators.guidance.engine import Predictions
from stg_eval.generators.guidance.schedulers import clean_sample, replaced_methods


@contextmanager
def one_step(scheduler: Any, predictions: Predictions, step: int) -> Iterator[dict[str, Tensor]]:
    """Collect, at `step` (0 is the first) of the run within the context, the clean sample that each prediction implies.

    Gives a dictionary that is filled at that step: "c", "u", "weak-spatial", "weak-temporal", "weak-joint", "cfg",
    "stg", those of them that the guidance has, each x0 in the shape of the latents, float32. "stg" is the output
    the scheduler gets, "cfg" that without the skip term. Open it within `guided`, and give its predictions.
    """
    views: dict[str, Tensor] = {}
    advance, count = scheduler.step, 0

    @functools.wraps(advance)
    def watched(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        if count == step:
            outputs: dict[str, Tensor | None] = {
                "c": predictions.c,
                "u": predictions.u,
                **{f"weak-{kind}": weak for kind, weak in predictions.weak.items()},
            }
            if predictions.u is not None:
                outputs["cfg"] = model_output
            if predictions.delta is not None:
                outputs["stg"] = model_output
                outputs["cfg"] = model_output.float() - predictions.delta if "cfg" in outputs else None
            views.update({k: clean_sample(scheduler, v, sample) for k, v in outputs.items() if v is not None})
        count += 1
        return advance(model_output, timestep, sample, *args, **kwargs)

    with replaced_methods(scheduler, step=watched):
        yield views
