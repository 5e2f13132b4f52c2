"""One-step predictions (Fig. 18 and 19): what c, u, the weak passes, CFG and STG each see at one step."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance import equations
from stg_eval.generators.guidance.engine import Predictions
from stg_eval.generators.guidance.schedulers import clean_sample_of, replaced_methods


@contextmanager
def one_step(
    scheduler: Any, predictions: Predictions, step: int, num_inference_steps: int
) -> Iterator[dict[str, Tensor]]:
    """Collect, at `step` (0 is the first) of the run within the context, the clean sample that each prediction implies.

    Gives a dictionary that is filled at that step: "c", "u", "weak-spatial", "weak-temporal", "weak-joint", "cfg",
    "stg", those of them that the guidance has, each x0 in the shape of the latents, float32. "stg" is the output
    the scheduler gets, "cfg" that without the skip term, both rescaled if the guidance has rescale. Open it within
    `guided`, and give its predictions. Raises StgEvalError for a step that there is not, and for a scheduler that does
    not tell its clean samples.
    """
    if not 0 <= step < num_inference_steps:
        raise StgEvalError(f"step {step} is not one of the {num_inference_steps} steps, 0 is the first")
    views: dict[str, Tensor] = {}
    clean_sample = clean_sample_of(scheduler)
    advance, count = scheduler.step, 0

    def rescaled(output: Tensor) -> Tensor:  # this step wraps the one that rescales
        c = predictions.c
        return equations.rescale(output, c, predictions.rescale) if predictions.rescale and c is not None else output

    @functools.wraps(advance)
    def watched(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        if count == step:
            outputs: dict[str, Tensor | None] = {
                "c": predictions.c,
                "u": predictions.u,
                **{f"weak-{kind}": weak for kind, weak in predictions.weak.items()},
            }
            delta = predictions.delta
            if predictions.u is not None:
                plain = model_output if delta is None else model_output.float() - _stream(delta, sample)
                outputs["cfg"] = rescaled(plain)
            if delta is not None:
                outputs["stg"] = rescaled(model_output)
            views.update({k: clean_sample(_stream(v, sample), sample) for k, v in outputs.items() if v is not None})
        count += 1
        return advance(model_output, timestep, sample, *args, **kwargs)

    with replaced_methods(scheduler, step=watched):
        yield views


def _stream(prediction: Tensor, sample: Tensor) -> Tensor:
    """The values of the latents; where a model predicts several streams as one vector, they come first."""
    return prediction.flatten(1)[:, : sample[0].numel()].reshape(sample.shape)
