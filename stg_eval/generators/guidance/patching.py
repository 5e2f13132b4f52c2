"""Replaces a module's forward for a while; on exit everything is as it was, always."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from stg_eval.generators.guidance.tensors import first_tensor, map_rows, zip_tensors

Forward = Callable[..., Any]


@contextmanager
def patched(module: nn.Module, forward: Forward) -> Iterator[None]:
    """Replace a module's forward on the instance, and put back what was there (accelerate may have put its own)."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def on_part(skip: Forward, original: Forward, part: int, parts: int) -> Forward:
    """Skip for one of `parts` equal parts of the batch, the original forward for the others."""
    if parts == 1:
        return skip

    def forward(*args: Any, **kwargs: Any) -> Any:
        skipped, normal = skip(*args, **kwargs), original(*args, **kwargs)
        return zip_tensors(
            normal, skipped, lambda n, s: torch.cat([(s if i == part else n).chunk(parts)[i] for i in range(parts)])
        )

    return forward


def on_half(skip: Forward, original: Forward, half: int) -> Forward:
    """Skip for one half of the batch (0 or 1), the original forward for the other: each half is computed once."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows = first_tensor(args, kwargs).shape[0]
        parts = []
        for i, run in enumerate((skip, original) if half == 0 else (original, skip)):
            part = slice(i * rows // 2, (i + 1) * rows // 2)
            inputs, named = map_rows(args, kwargs, rows, lambda t, part=part: t[part])  # type: ignore[misc]
            parts.append(run(*inputs, **named))
        return zip_tensors(parts[0], parts[1], lambda a, b: torch.cat([a, b]))

    return forward
