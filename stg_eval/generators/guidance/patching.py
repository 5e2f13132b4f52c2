"""Replaces a module's forward for a while; on exit everything is as it was, always."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stg_eval.generators.guidance.tensors import first_tensor, map_tensors, zip_tensors

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
    """Skip for one half of the batch (0 or 1), the original forward for the other: each half is computed once.

    The batch is outermost in every tensor that is an input of its own, however many rows others are folded into; of
    those in tuples, such as rotary embeddings, in those with as many rows as the first input.
    """

    def forward(*args: Any, **kwargs: Any) -> Any:
        rows = first_tensor(args, kwargs).shape[0]

        def part(x: Any, i: int) -> Any:
            if isinstance(x, Tensor):
                return x.chunk(2)[i] if x.ndim and x.shape[0] % 2 == 0 else x
            return map_tensors(x, lambda t: t.chunk(2)[i] if t.ndim and t.shape[0] == rows else t)

        runs = (skip, original) if half == 0 else (original, skip)
        first, second = (
            run(*(part(x, i) for x in args), **{name: part(x, i) for name, x in kwargs.items()})
            for i, run in enumerate(runs)
        )
        return zip_tensors(first, second, lambda a, b: torch.cat([a, b]))

    return forward
