"""A `Combine` term at work: its function, its parameters, and what it keeps between steps."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from stg_eval.generators.guidance.guiders import guider
from stg_eval.generators.guidance.predictions import Step
from stg_eval.methods import PREDICTIONS
from stg_eval.terms import Combine, Moment


class Combination:
    """Combines conditional and unconditional prediction, step after step. Raises StgEvalError for an unknown guider."""

    def __init__(self, term: Combine) -> None:
        self.term = term
        self.state: dict[str, Any] = {}
        self.parameters: dict[str, float] = {}
        if term.method.startswith("guider:"):
            self.function = guider(term.method.partition(":")[2], term.config)
        else:
            row = PREDICTIONS[term.method]
            module, _, name = row.function.partition(":")
            self.function = getattr(importlib.import_module(module), name)
            self.parameters = dict(row.parameters) | dict(term.parameters)

    def __call__(
        self,
        c: Tensor,
        u: Tensor,
        scale: float,
        moment: Moment,
        *,
        grid: tuple[int, int, int] | None = None,
        denoiser: nn.Module | None = None,
        run: Callable[[bool], Tensor] | None = None,
    ) -> Tensor:
        """Return the guided prediction of a step; for the arguments see `Step`."""
        if moment.step == 0:
            self.state = {}
        return self.function(c, u, scale, Step(moment, grid, self.state, denoiser, run), **self.parameters)
