"""Whatever goes into a module and comes out of it: tensors in tuples, dictionaries and diffusers' outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def first_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the sample: the first tensor input."""
    tensor = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim > 1), None)
    if tensor is None:
        raise TypeError("the denoiser was called without a tensor")
    return tensor


def map_tensors(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return `x` with the function of each tensor in its place."""
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, tuple | list):
        return type(x)(map_tensors(y, function) for y in x)
    if isinstance(x, dict):
        return type(x)(**{k: map_tensors(y, function) for k, y in x.items()})
    return x


def zip_tensors(x: Any, y: Any, function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    """Return two of the same form as one: the function of each pair of tensors."""
    if isinstance(x, Tensor):
        return function(x, y)
    return type(x)(zip_tensors(a, b, function) for a, b in zip(x, y, strict=True))


def map_rows(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    rows: int,
    function: Callable[[Tensor], Tensor],
    unbatched: Sequence[str] = (),
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return inputs with the function of every tensor that has `rows` rows, but for the keyword inputs in
    `unbatched`."""

    def mapped(x: Any) -> Any:
        return map_tensors(x, lambda t: function(t) if t.ndim and t.shape[0] == rows else t)

    return tuple(map(mapped, args)), {k: x if k in unbatched else mapped(x) for k, x in kwargs.items()}


def samples_of(output: Any, count: int) -> list[Tensor]:
    """A denoiser's predictions: its output, or the first `count` of them."""
    if isinstance(output, Tensor):
        return [output]
    return [output[i] for i in range(count)]  # a tuple, or one of diffusers' outputs, which index like one


def packed(samples: Sequence[Tensor], channels: int | None) -> Tensor:
    """The prediction, of these channels; several are one vector a row, since guidance is the same sum for each of
    their values."""
    if len(samples) > 1:
        return torch.cat([sample.flatten(1) for sample in samples], dim=1)
    return samples[0] if channels is None else samples[0][:, :channels]


def unpacked(rows: Tensor, samples: Sequence[Tensor]) -> list[Tensor]:
    """What was packed, each in the form of its sample; there may be other rows."""
    if len(samples) == 1:
        return [rows]
    parts = rows.split([sample[0].numel() for sample in samples], dim=1)
    return [part.reshape(-1, *sample.shape[1:]) for part, sample in zip(parts, samples, strict=True)]


def with_rows(output: Any, count: int, rows: Tensor) -> Any:
    """The same output with other predictions, packed."""
    samples, replaced = samples_of(output, count), []
    for sample, part in zip(samples, unpacked(rows, samples), strict=True):
        whole = sample if len(part) == len(sample) else torch.cat([sample, sample])  # else one half was computed
        whole = whole.clone()
        whole[:, : part.shape[1]] = part.to(sample.dtype)
        replaced.append(whole)
    return _with_samples(output, replaced)


def _with_samples(output: Any, samples: Sequence[Tensor]) -> Any:
    if isinstance(output, Tensor):
        return samples[0]
    if isinstance(output, tuple):
        return (*samples, *output[len(samples) :])
    return type(output)(**{**output, **dict(zip(output, samples, strict=False))})
