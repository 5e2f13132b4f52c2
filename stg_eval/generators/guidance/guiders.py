"""Any guider of diffusers as a prediction method, one that perturbs the model too. diffusers: they are experimental."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance.predictions import Step


def guider(name: str, config: str) -> Callable[..., Tensor]:
    """Return the function (c, u, scale, step) of the class `name` of `diffusers.guiders` with a JSON configuration.

    The CFG scale is its guidance_scale. Each run has a guider of its own, read back from its own configuration, so no
    momentum goes from one clip to the next. One that perturbs the model's layers gets a full pass for each prediction
    that it perturbs. Raises StgEvalError for a class or an option that diffusers does not have.
    """
    from diffusers import guiders

    known = sorted(n for n in vars(guiders) if n.endswith("Guidance") and n != "BaseGuidance")
    if name not in known:
        raise StgEvalError(f"diffusers has no guider {name!r} (known: {', '.join(known)})")
    kind: Any = getattr(guiders, name)
    options, accepted = json.loads(config), inspect.signature(kind).parameters
    for option in options:
        if option not in accepted:
            raise StgEvalError(f"{name} has no option {option!r} (known: {', '.join(accepted)})")

    def made(scale: float) -> Any:
        told = {"guidance_scale": scale} if "guidance_scale" in accepted else {}
        try:
            return kind.from_config(json.loads(kind(**options, **told).to_json_string()))
        except (ImportError, TypeError, ValueError) as error:
            raise StgEvalError(f"{name} cannot be made from {config}: {' '.join(str(error).split())}") from error

    made(2.0)  # what is wrong is said before anything is run

    def function(c: Tensor, u: Tensor, scale: float, step: Step) -> Tensor:
        if "guider" not in step.state:
            step.state["guider"] = made(scale)
            step.state["guider"].set_state(0, step.moment.num_steps, None)
            step.state["guider"].prepare_inputs({"rows": (c, u)})  # starts what it keeps between steps
        found = step.state["guider"]
        if "guidance_scale" in accepted:
            found.guidance_scale = scale
        found.set_state(step.moment.step, step.moment.num_steps, None)
        denoiser, run = step.denoiser, step.run
        assert denoiser is not None
        assert run is not None
        asked = found.prepare_inputs({"rows": (torch.tensor(0), torch.tensor(1))})
        predictions = {}
        for batch in asked:
            conditional, which = int(batch.rows) == 0, getattr(batch, found._identifier_key)
            with _unchanged(denoiser):
                try:
                    found.prepare_models(denoiser)
                except (AttributeError, TypeError, ValueError) as error:
                    reason = " ".join(str(error).split())
                    raise StgEvalError(f"{name} cannot act on {type(denoiser).__name__}: {reason}") from error
                perturbed = any(r.hooks for m in denoiser.modules() if (r := getattr(m, "_diffusers_hook", None)))
                predictions[which] = run(conditional) if perturbed else (c if conditional else u)
        predictions.setdefault("pred_cond", c)
        prediction: Tensor = found.forward(**predictions).pred
        return prediction

    return function


@contextmanager
def _unchanged(denoiser: nn.Module) -> Iterator[None]:
    """On exit, forwards and diffusers' registries of hooks are those that were there."""
    names = ("forward", "_diffusers_hook")
    before = [(m, {n: m.__dict__[n] for n in names if n in m.__dict__}) for m in denoiser.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            for name in names:
                module.__dict__.pop(name, None)
            module.__dict__.update(attributes)
