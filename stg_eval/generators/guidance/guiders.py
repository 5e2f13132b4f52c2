"""Any guider of diffusers that combines predictions, as a prediction method. diffusers calls them experimental."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from torch import Tensor

from stg_eval.errors import StgEvalError


def guider(name: str, config: str) -> Callable[..., Tensor]:
    """The function (c, u, scale, step) of the class `name` of `diffusers.guiders` with a JSON configuration.

    The CFG scale is its guidance_scale. Each run has a guider of its own, read back from its own configuration, so no
    momentum goes from one clip to the next. Raises StgEvalError for a class or an option that diffusers does not have,
    and for a guider that perturbs the model itself, which skips do here.
    """
    from diffusers import guiders

    known = sorted(n for n in vars(guiders) if n.endswith("Guidance") and n != "BaseGuidance")
    if name not in known:
        raise StgEvalError(f"diffusers has no guider {name!r} (known: {', '.join(known)})")
    kind: Any = getattr(guiders, name)
    if kind.prepare_models is not guiders.BaseGuidance.prepare_models:
        raise StgEvalError(f"{name} perturbs the model's layers itself; write a skip such as stg-r[8]w1 in its place")
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

    def function(c: Tensor, u: Tensor, scale: float, step: Any) -> Tensor:
        if "guider" not in step.state:
            step.state["guider"] = made(scale)
            step.state["guider"].set_state(0, step.moment.num_steps, None)
            step.state["guider"].prepare_inputs({"sample": (c, u)})  # starts what it keeps between steps
        found = step.state["guider"]
        if "guidance_scale" in accepted:
            found.guidance_scale = scale
        found.set_state(step.moment.step, step.moment.num_steps, None)
        prediction: Tensor = found.forward(pred_cond=c, pred_uncond=u).pred
        return prediction

    return function
