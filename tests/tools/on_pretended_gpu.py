"""A pytest plug-in, `-p on_pretended_gpu`: the tests of metrics as they are, with every network on a pretended GPU.

Whatever of `stg_eval.metrics` takes a `device` and is given the CPU gets cuda instead: a test that compares with the
official implementation, or with stored values, then compares what a GPU would be asked to do.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

import pytest
from pretended_gpu import pretend

DEVICE = "cuda:1"
STACK: dict[str, Any] = {"exit": contextlib.ExitStack()}


def pytest_unconfigure() -> None:
    STACK["exit"].close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The second device is asked for: nothing may have lain on the first."""
    if STACK["gpus"].used != {DEVICE}:
        print(f"\ntensors lay on {STACK['gpus'].used}, and the device is {DEVICE}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure() -> None:
    """Before the test modules take names from the package."""
    STACK["gpus"] = STACK["exit"].enter_context(pretend(devices=2))
    import stg_eval.metrics

    for found in pkgutil.walk_packages(stg_eval.metrics.__path__, "stg_eval.metrics."):
        importlib.import_module(found.name)
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("stg_eval")]
    moved: dict[int, Any] = {}
    for module in ours:
        for name, value in list(vars(module).items()):
            if not getattr(value, "__module__", "").startswith("stg_eval.metrics"):
                continue
            if inspect.isfunction(value) and "device" in inspect.signature(value).parameters:
                moved.setdefault(id(value), _moved(value))
                setattr(module, name, moved[id(value)])
            elif inspect.isclass(value) and value.__module__ == module.__name__ and "__init__" in vars(value):
                init = vars(value)["__init__"]
                if "device" in inspect.signature(init).parameters:
                    value.__init__ = _moved(init)


def _moved(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        if str(given.arguments["device"]) == "cpu":
            given.arguments["device"] = DEVICE
        return function(*given.args, **given.kwargs)

    return call
