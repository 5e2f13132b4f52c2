"""Lightning's side of `Evaluate`, imported late: a real Callback of whichever package the Trainer comes from."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Protocol

from stg_eval.types import StgEvalError

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""Two names of one library, whose Trainers take only callbacks of their own."""


class Evaluates(Protocol):
    """`stg_eval.callback.Evaluate`, as far as it is needed here."""

    def due(self, step: int) -> bool: ...

    def __call__(self, step: int) -> bool: ...


def callback(evaluate: Evaluates) -> Any:
    """Return a callback that evaluates behind each optimiser step and stops the Trainer where the gate says so."""
    base = _base()

    class Evaluating(base):  # type: ignore[misc, valid-type]
        seen = 0

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            step = trainer.global_step
            if step == self.seen or not evaluate.due(step):
                return
            self.seen = step  # on every process: with accumulated gradients several batches end at one step
            stop = evaluate(step) if trainer.is_global_zero else False
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
            trainer.should_stop = trainer.should_stop or stop

    return Evaluating()


def _base() -> Any:
    for name in sorted(PACKAGES, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name).Callback
        except ModuleNotFoundError:
            continue
    raise StgEvalError("Lightning is not installed here: pip install lightning")
