"""Whatever an evaluation does inside a training, the training goes on as if it had not been: bit for bit."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def modules_of(live: Any) -> dict[str, nn.Module]:
    """Name the networks of a pipeline, or the one that is given."""
    parts = {"": live} if isinstance(live, nn.Module) else getattr(live, "components", {})
    return {name: part for name, part in parts.items() if isinstance(part, nn.Module)}


def trained(live: Any) -> dict[str, nn.Module]:
    """Name the networks that training may change: those with a parameter that requires a gradient; all, if none has."""
    modules = modules_of(live)
    return {n: m for n, m in modules.items() if any(p.requires_grad for p in m.parameters())} or modules


def digest(live: Any) -> str:
    """Return a digest, 16 hex digits, of the weights that training may change."""
    tensors = {f"{n}.{key}": t for n, m in sorted(trained(live).items()) for key, t in sorted(m.state_dict().items())}
    with ThreadPoolExecutor() as pool:  # hashing leaves the interpreter to others
        found = pool.map(lambda t: sha256(_bytes(t)).digest(), tensors.values())
        return sha256(b"".join(n.encode() + one for n, one in zip(tensors, found, strict=True))).hexdigest()[:16]


@contextmanager
def untouched(live: Any) -> Iterator[None]:
    """Evaluate in the block: the networks are in eval mode, outside of autocast, and no gradient is recorded. Behind it
    everything is as it was, whatever the block did or raised: random numbers of torch (CPU and CUDA), numpy and
    `random`; train or eval mode of every submodule; requires_grad and gradients; a pipeline's scheduler and progress
    bar; cuDNN's and matrix multiplication's switches, default dtype and threads. Weights are not copied: nothing
    writes to them.
    """
    with ExitStack() as stack:
        for restore in (*_random(), *_switches(), *_pipeline(live)):
            stack.callback(restore)
        for module in modules_of(live).values():
            for part in module.modules():
                stack.callback(setattr, part, "training", part.training)
            for parameter in module.parameters():
                stack.callback(_give_back, parameter, parameter.requires_grad, parameter.grad)
            module.eval()
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.no_grad())
        yield


def _random() -> list[Callable[[], object]]:
    cpu, of_numpy, of_python = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    restore: list[Callable[[], object]] = [
        lambda: torch.set_rng_state(cpu),
        lambda: np.random.set_state(of_numpy),  # noqa: NPY002
        lambda: random.setstate(of_python),
    ]
    if torch.cuda.is_initialized():
        gpus = torch.cuda.get_rng_state_all()
        restore.append(lambda: torch.cuda.set_rng_state_all(gpus))
    return restore


def _switches() -> list[Callable[[], object]]:
    """Each is set back only where it has changed: some warn when they are set."""
    cudnn: Any = torch.backends.cudnn
    every: list[tuple[Callable[[], Any], Callable[[Any], object]]] = [
        (torch.get_default_dtype, torch.set_default_dtype),
        (torch.get_num_threads, torch.set_num_threads),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
        (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    ]
    for name in ("enabled", "benchmark", "deterministic"):
        every.append((lambda name=name: getattr(cudnn, name), lambda value, name=name: setattr(cudnn, name, value)))  # type: ignore[misc]

    def restoring(get: Callable[[], Any], put: Callable[[Any], object]) -> Callable[[], object]:
        before = get()
        return lambda: None if get() == before else put(before)

    return [restoring(get, put) for get, put in every]


def _pipeline(live: Any) -> list[Callable[[], object]]:
    """Training often shares the pipeline's scheduler, whose timesteps sampling sets: it gets a copy meanwhile."""
    restore: list[Callable[[], object]] = []
    if not isinstance(live, nn.Module) and (scheduler := getattr(live, "scheduler", None)) is not None:
        live.scheduler = copy.deepcopy(scheduler)
        restore.append(lambda: setattr(live, "scheduler", scheduler))
    if (bar := getattr(live, "_progress_bar_config", None)) is not None:
        restore.append(lambda: setattr(live, "_progress_bar_config", bar))
    return restore


def _give_back(parameter: nn.Parameter, requires_grad: bool, grad: Tensor | None) -> None:
    parameter.requires_grad_(requires_grad)
    if parameter.grad is not grad:
        parameter.grad = grad


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
