"""A prompt is encoded once, however many clips are made of it: under every seed and every guidance its features are the
same. The text encoder then rests, on the CPU where the model is offloaded."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

from torch import Tensor

from stg_eval.generators.guidance.tensors import map_tensors

KEPT = 4 * 2**30
"""Bytes of features that are kept, on the CPU: a thousand prompts or two of a T5-XXL. The longest unused go first."""


def encode_once(pipeline: Any) -> None:
    """Let `pipeline.encode_prompt` return what it returned before for the same arguments. Does nothing for a pipeline
    without text."""
    encode = getattr(pipeline, "encode_prompt", None)
    if encode is None:
        return
    kept: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    @functools.wraps(encode)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, Tensor) for x in (*args, *kwargs.values())):  # features that are given are not encoded
            return encode(*args, **kwargs)
        key = repr((args, sorted(kwargs.items())))
        if key not in kept:
            made = encode(*args, **kwargs)
            sizes: list[int] = []
            devices = set()

            def to_cpu(x: Tensor) -> Tensor:
                sizes.append(x.nbytes)
                devices.add(x.device)
                return x.detach().to("cpu", copy=True)

            stored = map_tensors(made, to_cpu)
            if len(devices) != 1:
                return made
            kept[key] = (stored, devices.pop()), sum(sizes)
            while len(kept) > 1 and sum(size for _, size in kept.values()) > KEPT:
                kept.popitem(last=False)
            return made
        kept.move_to_end(key)
        (stored, device), _ = kept[key]
        return map_tensors(stored, lambda x: x.to(device, copy=True))

    pipeline.encode_prompt = call
