"""The guided denoiser: strong pass, recorded prefix, weak passes on the conditional rows, one delta for both halves.

A pipeline calls its UNet or transformer as ever. When the call returns, a forward hook runs the weak passes and adds
delta = w (c - p) to the conditional and to the unconditional rows, which passes any CFG combination unchanged:
(u + d) + g ((c + d) - (u + d)) = u + g (c - u) + d. The pipeline's loop and its CFG stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stg_eval.generators.guidance import equations, skips
from stg_eval.generators.guidance.layers import LayerMap, WeakPass, weak_passes
from stg_eval.generators.guidance.schedulers import rescaled, restarted
from stg_eval.types import Guidance, StgEvalError

BatchOrder = Literal["c", "uc", "cu", "c,u"]
"""Rows of a denoiser call: conditional only; unconditional then conditional half; the reverse; or two calls a step,
the conditional one first (Wan)."""


@dataclass
class Predictions:
    """What the last step predicted, before guidance. Tensors as the denoiser returns them, one row a sample."""

    c: Tensor | None = None
    u: Tensor | None = None
    """None without CFG."""
    weak: dict[str, Tensor] = field(default_factory=dict)
    """Kind of weak pass ("spatial", "temporal", "joint") -> its prediction."""
    delta: Tensor | None = None
    """What was added to c and u; None where there is no weak pass."""
    rescale: float = 0.0
    """How far what the scheduler gets is rescaled towards c, see `Guidance.rescale`."""
    recorded_bytes: int = 0
    """Memory the recorded prefix took, until the weak passes were done."""


@contextmanager
def guided(
    denoiser: nn.Module,
    guidance: Guidance,
    layer_map: LayerMap,
    *,
    batch_order: BatchOrder,
    scheduler: Any = None,
    generators: Sequence[torch.Generator] | None = None,
    share_prefix: bool = True,
    batch_weak_passes: bool = False,
) -> Iterator[Predictions]:
    """Within the context, `denoiser` predicts with the skip guidance; on exit, everything is as it was, always.

    batch_order says which rows are conditional; classifier-free guidance itself is left to the pipeline. scheduler is
    needed for rescale and Restart, generators (one a sample, Restart's noise) for Restart. share_prefix=False runs
    every weak pass from the first layer on: same result, for measuring what sharing saves. batch_weak_passes runs
    spatial and temporal weak pass as one batch: faster where a pass is too small to fill the device.

    Raises StgEvalError for a layer, attention or scheduler that the guidance cannot act on, before anything is run.
    """
    predictions = Predictions(rescale=guidance.rescale)
    passes = weak_passes(denoiser, guidance, layer_map)
    if scheduler is None and (guidance.rescale or guidance.restart):
        raise StgEvalError("rescale and restart act on the scheduler, which this model does not offer; leave them out")
    with ExitStack() as stack:
        run = _Run(denoiser, guidance, layer_map, batch_order, passes, share_prefix, batch_weak_passes, predictions)
        run.check_attention()
        for handle in run.hooks():
            stack.callback(handle.remove)
        if guidance.rescale:
            stack.enter_context(rescaled(scheduler, lambda: predictions.c, guidance.rescale))
        if guidance.restart:
            stack.enter_context(restarted(scheduler, guidance.restart, generators))
        yield predictions


@dataclass
class _Run:
    denoiser: nn.Module
    guidance: Guidance
    layer_map: LayerMap
    batch_order: BatchOrder
    passes: list[WeakPass]
    share_prefix: bool
    batched: bool
    predictions: Predictions
    recording: bool = False
    trace: list[tuple[str, Any]] = field(default_factory=list)
    """Modules that finished in the strong pass, in order, with the conditional rows of their output; a chain keeps
    an output only where a weak pass starts, the others are Ellipsis."""
    cuts: dict[int, int] = field(default_factory=dict)
    """Number of a weak pass -> how much of the trace lies before its first skipped block."""
    calls: int = 0

    # ---- strong pass

    def hooks(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        yield self.denoiser.register_forward_pre_hook(self._begin)
        yield self.denoiser.register_forward_hook(self._finish, with_kwargs=True)
        if self.passes and self.share_prefix:
            for path in self._recordable():
                yield self.denoiser.get_submodule(path).register_forward_hook(self._recorder(path))
            for path in {path for weak in self.passes for _, path in weak.blocks}:
                yield self.denoiser.get_submodule(path).register_forward_pre_hook(self._reacher(path))

    def _recordable(self) -> list[str]:
        """Modules to record: those the map names, as far out as possible without holding a skipped block."""
        paths = [path for path, _ in self.denoiser.named_modules()]
        if self.layer_map.prefix is None:
            wanted = {path for layer in self.layer_map.layers(self.denoiser) for path in layer.blocks.values()}
        else:
            wanted = {path for path in paths if any(fnmatchcase(path, pattern) for pattern in self.layer_map.prefix)}
        found: set[str] = set()
        for weak in self.passes:
            blocks = {path for _, path in weak.blocks}
            free = {path for path in wanted if not any((block + ".").startswith(path + ".") for block in blocks)}
            found |= {path for path in free if not _ancestors(path) & (free | blocks)}
        return [path for path in paths if path in found]

    def _begin(self, *_: Any) -> None:
        self.trace.clear()
        self.cuts.clear()
        self.recording = bool(self.passes) and self._conditional_call()

    def _conditional_call(self) -> bool:
        return self.batch_order != "c,u" or self.calls % 2 == 0

    def _recorder(self, path: str) -> Callable[..., None]:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            if not self.recording or len(self.cuts) == len(self.passes):
                return
            if self.layer_map.prefix is None and self.trace and len(self.trace) not in self.cuts.values():
                self.trace[-1] = (self.trace[-1][0], ...)
            self.trace.append((path, _map_tensors(output, self._conditional)))

        return record

    def _reacher(self, path: str) -> Callable[..., None]:
        def reach(*_: Any) -> None:
            if self.recording:
                for number, weak in enumerate(self.passes):
                    if path in (block for _, block in weak.blocks):
                        self.cuts.setdefault(number, len(self.trace))

        return reach

    def _recorded_bytes(self) -> int:
        storages: dict[int, int] = {}

        def count(x: Tensor) -> Tensor:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        for _, output in self.trace:
            _map_tensors(output, count)
        return sum(storages.values())

    def _conditional(self, x: Tensor) -> Tensor:
        if self.batch_order == "uc":
            return x[x.shape[0] // 2 :].clone()  # a view would keep the unconditional half alive
        if self.batch_order == "cu":
            return x[: x.shape[0] // 2].clone()
        return x

    # ---- weak passes and the combination

    def _finish(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        self.recording = False
        conditional_call = self._conditional_call()
        self.calls += 1
        sample = _sample(output)
        prediction = sample if self.layer_map.channels is None else sample[:, : self.layer_map.channels]
        if not conditional_call:
            self.predictions.u = prediction
        else:
            half = prediction.shape[0] // 2
            if self.batch_order in ("uc", "cu"):
                if prediction.shape[0] % 2:
                    raise StgEvalError(
                        f"a {self.batch_order} batch has two halves, this one {prediction.shape[0]} rows"
                    )
                u, c = prediction[:half], prediction[half:]
                self.predictions.u, self.predictions.c = (u, c) if self.batch_order == "uc" else (c, u)
            else:
                self.predictions.u, self.predictions.c = None, prediction
            if self.passes:
                self.predictions.recorded_bytes = self._recorded_bytes()
                self.predictions.weak = self._weak_predictions(args, kwargs)
                self.predictions.delta = self._delta()
        self.trace.clear()
        if self.predictions.delta is None:
            return None
        delta = self.predictions.delta
        if prediction.shape[0] != delta.shape[0]:
            delta = torch.cat([delta, delta])
        guided_sample = sample.clone()
        guided_sample[:, : prediction.shape[1]] = (prediction.float() + delta).to(sample.dtype)
        return _with_sample(output, guided_sample)

    def _delta(self) -> Tensor:
        """The guidance term in float32, [conditional rows, ...] (Eq. 13; Eq. 20; Eq. 21 where orthogonal)."""
        c = self.predictions.c
        assert c is not None
        parts = {p.kind: c.float() - self.predictions.weak[p.kind].float() for p in self.passes}
        if self.guidance.orthogonal:
            parts["temporal"] = equations.orthogonal(parts["temporal"], parts["spatial"])
        return sum((p.scale * parts[p.kind] for p in self.passes), torch.zeros_like(c, dtype=torch.float32))

    def _weak_predictions(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        rows = _first(args, kwargs).shape[0]

        def conditional(x: Any) -> Any:
            return _map_tensors(x, lambda t: self._conditional(t) if t.ndim and t.shape[0] == rows else t)

        args = tuple(conditional(x) for x in args)
        kwargs = {k: x if k in self.layer_map.unbatched else conditional(x) for k, x in kwargs.items()}
        numbers = range(len(self.passes))
        groups = [list(numbers)] if self.batched else [[n] for n in numbers]
        weak: dict[str, Tensor] = {}
        for group in groups:
            sample = _sample(self._weak_pass(group, args, kwargs))
            sample = sample if self.layer_map.channels is None else sample[:, : self.layer_map.channels]
            for number, part in zip(group, sample.chunk(len(group)), strict=True):
                weak[self.passes[number].kind] = part
        return weak

    def _weak_pass(self, group: list[int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        copies, rows = len(group), _first(args, kwargs).shape[0]

        def repeat(x: Any) -> Any:
            return _map_tensors(x, lambda t: torch.cat([t] * copies) if t.ndim and t.shape[0] == rows else t)

        grid = None if self.layer_map.grid is None else self.layer_map.grid(args, kwargs)
        if copies > 1:
            args = tuple(repeat(x) for x in args)
            kwargs = {k: x if k in self.layer_map.unbatched else repeat(x) for k, x in kwargs.items()}
        with ExitStack() as stack:
            for path, forward in self._replays(group, copies):
                stack.enter_context(_patched(self.denoiser.get_submodule(path), forward))
            for place, number in enumerate(group):
                for kind, path in self.passes[number].blocks:
                    block = self.denoiser.get_submodule(path)
                    module, forward = self._skip(block, kind, grid)
                    stack.enter_context(_patched(module, _on_part(forward, module.forward, place, copies)))
            return self.denoiser.forward(*args, **kwargs)  # forward, not a call: our own hooks are on the call

    def _replays(self, group: list[int], copies: int) -> list[tuple[str, skips.Forward]]:
        """Forwards that return the recording, for everything before the group's first skipped block."""
        recorded: dict[str, list[Any]] = {}
        for path, output in self.trace[: min((self.cuts.get(n, 0) for n in group), default=0)]:
            recorded.setdefault(path, []).append(_map_tensors(output, lambda t: torch.cat([t] * copies)))
        passing = skips.residual(self.layer_map.streams)

        def replay(outputs: list[Any]) -> skips.Forward:
            queue = iter(outputs)

            def forward(*args: Any, **kwargs: Any) -> Any:
                output = next(queue)
                return passing(*args, **kwargs) if output is ... else output

            return forward

        return [(path, replay(outputs)) for path, outputs in recorded.items()]

    def _skip(self, block: nn.Module, kind: str, grid: tuple[int, int, int] | None) -> tuple[nn.Module, skips.Forward]:
        """The module to patch and its replacement forward."""
        if self.guidance.method == "stg-r":
            return block, skips.residual(self.layer_map.streams)
        attention = block.get_submodule(self.layer_map.attention)
        if self.guidance.method == "stg-a":
            return attention, skips.identity(attention, self.layer_map.joint_identity)
        if self.guidance.method == "stg-i":
            return attention, skips.attention_input(joint=bool(self.layer_map.joint_identity))
        if grid is None:
            raise StgEvalError(f"SEG needs the token grid, which the layer map of {self.layer_map.model} does not tell")
        projection, fused = skips.query_projection(attention)
        blur, original = skips.seg(kind, grid, self.guidance.blur_sigma), projection.forward

        def blurred(*args: Any, **kwargs: Any) -> Any:
            out = original(*args, **kwargs)
            if not fused:
                return blur(out)
            q, k, v = out.chunk(3, dim=-1)
            return torch.cat([blur(q), k, v], dim=-1)

        return projection, blurred

    def check_attention(self) -> None:
        """Refuse at once, not at the first step, an attention that cannot be skipped."""
        for weak in self.passes:
            for kind, path in weak.blocks:
                self._skip(self.denoiser.get_submodule(path), kind, None if self.layer_map.grid is None else (1, 1, 1))


@contextmanager
def _patched(module: nn.Module, forward: skips.Forward) -> Iterator[None]:
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


def _on_part(skip: skips.Forward, original: skips.Forward, part: int, parts: int) -> skips.Forward:
    """Skip for one of `parts` equal parts of the batch, the original forward for the others."""
    if parts == 1:
        return skip

    def forward(*args: Any, **kwargs: Any) -> Any:
        skipped, normal = skip(*args, **kwargs), original(*args, **kwargs)
        return _zip_tensors(
            normal, skipped, lambda n, s: torch.cat([(s if i == part else n).chunk(parts)[i] for i in range(parts)])
        )

    return forward


def _ancestors(path: str) -> set[str]:
    names = path.split(".")
    return {".".join(names[:i]) for i in range(1, len(names))}


def _first(args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """The sample: the first tensor input."""
    tensor = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim > 1), None)
    if tensor is None:
        raise TypeError("the denoiser was called without a tensor")
    return tensor


def _map_tensors(x: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(x, Tensor):
        return function(x)
    if isinstance(x, tuple | list):
        return type(x)(_map_tensors(y, function) for y in x)
    if isinstance(x, dict):
        return type(x)(**{k: _map_tensors(y, function) for k, y in x.items()})
    return x


def _zip_tensors(x: Any, y: Any, function: Callable[[Tensor, Tensor], Tensor]) -> Any:
    if isinstance(x, Tensor):
        return function(x, y)
    return type(x)(_zip_tensors(a, b, function) for a, b in zip(x, y, strict=True))


def _sample(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    sample: Tensor = output[0]  # a tuple, or one of diffusers' outputs, which index like one
    return sample


def _with_sample(output: Any, sample: Tensor) -> Any:
    if isinstance(output, Tensor):
        return sample
    if isinstance(output, tuple):
        return (sample, *output[1:])
    return type(output)(**{**output, next(iter(output)): sample})
