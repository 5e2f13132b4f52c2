"""The guided denoiser: strong pass, recorded prefix, weak passes on the conditional rows, one answer for both halves.

A pipeline calls its UNet or transformer as ever; the call runs the weak passes too and adds delta = w (c - p) to the
conditional and to the unconditional rows, which passes any CFG combination unchanged:
(u + d) + g ((c + d) - (u + d)) = u + g (c - u) + d. The pipeline's loop and its CFG stay as they are.

Another CFG scale than the pipeline's, g' for g, is given by moving u: u' = c + (g' - 1) / (g - 1) (u - c). Another
combination p altogether is given in both halves, so that the pipeline's CFG changes nothing; where the two are calls of
their own, the second gets u' = (g c - p) / (g - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stg_eval.errors import StgEvalError
from stg_eval.generators.guidance import equations
from stg_eval.generators.guidance.clock import clock
from stg_eval.generators.guidance.combination import Combination
from stg_eval.generators.guidance.layers import Kind, LayerMap, WeakPass, unconditional_blocks, weak_passes
from stg_eval.generators.guidance.patching import Forward, on_half, on_part, patched
from stg_eval.generators.guidance.prefix import Prefix
from stg_eval.generators.guidance.schedulers import rescaled, restarted
from stg_eval.generators.guidance.skips import Site, skip_function
from stg_eval.generators.guidance.tensors import first_tensor, map_rows, packed, samples_of, unpacked, with_rows
from stg_eval.methods import SKIPS
from stg_eval.signature import Guidance
from stg_eval.terms import Moment, Skip, Window

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
    """Name of weak pass ("spatial", "temporal", "joint", "auto") -> its prediction."""
    delta: Tensor | None = None
    """What was added to c and u; None where there is no weak pass."""
    rescale: float = 0.0
    """How far what the scheduler gets is rescaled towards c, see `Guidance.rescale`."""
    recorded_bytes: int = 0
    """Memory the recorded prefix took, until the weak passes were done."""


@contextmanager
def guided(
    denoiser: nn.Module | Sequence[nn.Module],
    guidance: Guidance,
    layer_map: LayerMap,
    *,
    batch_order: BatchOrder,
    scheduler: Any = None,
    generators: Sequence[torch.Generator] | None = None,
    share_prefix: bool = True,
    batch_weak_passes: bool = False,
    weaker: Sequence[nn.Module] = (),
    told_scales: Sequence[float] = (),
) -> Iterator[Predictions]:
    """Within the context, `denoiser` predicts with the guidance; on exit, everything is as it was, always.

    batch_order says which rows are conditional; the pipeline is told guidance.cfg_scale and does its classifier-free
    guidance itself. scheduler is needed for windows, prediction methods, rescale and Restart, generators (one a sample,
    Restart's noise) for Restart. share_prefix=False runs every weak pass from the first layer on: same result, for
    measuring what sharing saves. batch_weak_passes runs the weak passes of a step as one batch: faster where a pass is
    too small to fill the device. Several denoisers of one form, each for steps of its own (Wan 2.2), are given as a
    list. weaker: as many of another checkpoint, for AutoGuidance. told_scales: the CFG scale that the pipeline has for
    each output, where it is not the guidance's for all.

    Raises StgEvalError for a layer, attention or scheduler that the guidance cannot act on, before anything is run.
    """
    windows = guidance.windows()
    if scheduler is None and (windows or guidance.combine or guidance.rescale or guidance.restart):
        raise StgEvalError(
            "windows, prediction methods, rescale and restart ask the scheduler, which this model does not offer; "
            "leave them out"
        )
    denoisers = [denoiser] if isinstance(denoiser, nn.Module) else denoiser
    if guidance.auto and len(weaker) != len(denoisers):
        raise StgEvalError(f"{guidance.auto} needs a second checkpoint, which this model does not load; leave it out")
    predictions = Predictions()
    runs = [
        _Run(one, guidance, layer_map, batch_order, share_prefix, batch_weak_passes, worse, predictions, told_scales)
        for one, worse in zip_longest(denoisers, weaker)
    ]
    for run in runs:
        run.check_attention()
    with ExitStack() as stack:
        if windows or guidance.combine:
            now = stack.enter_context(clock(scheduler, by_noise_level=any(w.unit == "n" for w in windows)))
            for run in runs:
                run.now = now
        for run in runs:
            if run.passes and share_prefix:
                for handle in run.prefix.hooks():
                    stack.callback(handle.remove)
            stack.enter_context(patched(run.denoiser, run))
        if guidance.rescale:
            stack.enter_context(rescaled(scheduler, lambda: (predictions.c, predictions.rescale)))
        if guidance.restart:
            stack.enter_context(restarted(scheduler, guidance.restart, generators))
        yield predictions


class _Run:
    """The denoiser's forward within the context."""

    def __init__(
        self,
        denoiser: nn.Module,
        guidance: Guidance,
        layer_map: LayerMap,
        batch_order: BatchOrder,
        share_prefix: bool,
        batched: bool,
        weaker: nn.Module | None,
        predictions: Predictions,
        told_scales: Sequence[float],
    ) -> None:
        self.told = told_scales or (guidance.cfg_scale,) * layer_map.outputs
        self.weaker, self.predictions = weaker, predictions
        self.denoiser, self.forward, self.guidance, self.layer_map = denoiser, denoiser.forward, guidance, layer_map
        self.batch_order, self.share_prefix, self.batched = batch_order, share_prefix, batched
        self.passes = weak_passes(denoiser, guidance, layer_map)
        self.prefix = Prefix(denoiser, layer_map, self.passes)
        self.unconditional = [
            (skip, unconditional_blocks(denoiser, skip, layer_map)) for skip in guidance.skips if skip.unconditional
        ]
        self.combinations = [Combination(guidance.combine) for _ in self.told if guidance.combine]
        """One for each output, with a state of its own."""
        self.outputs: list[Tensor] = []
        """What the denoiser returned last, for their shapes."""
        self.now: Callable[[], Moment] | None = None
        self.calls = 0
        self.inputs: dict[bool, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        """What the denoiser was called with for the conditional rows and for the unconditional ones, or for both."""
        self.answer: Any = None
        """What the conditional one of two calls was answered."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.layer_map.passes_by(kwargs):
            return self.forward(*args, **kwargs)
        moment = self.now() if self.now else None
        self.calls += 1
        if self.batch_order == "c,u" and self.calls % 2 == 0:
            self.inputs[False] = args, kwargs
            return self._second_call(moment, args, kwargs)
        self.inputs = dict.fromkeys((True, False), (args, kwargs))
        self.predictions.rescale = self.guidance.rescale_at(moment)
        pair = self.batch_order in ("uc", "cu")
        alone = pair and self.guidance.cfg_at(moment) == 1  # a step without CFG: what nobody looks at is not computed
        if pair and first_tensor(args, kwargs).shape[0] % 2:
            rows = first_tensor(args, kwargs).shape[0]
            raise StgEvalError(f"a {self.batch_order} batch has two halves, this one {rows} rows")
        if alone:
            args, kwargs = self._conditional_rows(args, kwargs)
        passes = [weak for weak in self.passes if _acts(weak.skip.window, moment)]
        auto = self.guidance.auto
        auto = auto if auto and auto.scale and _acts(auto.window, moment) else None
        self.prefix.start(passes, self._conditional if pair and not alone else lambda x: x)
        with ExitStack() as stack:
            if pair and not alone:
                self._skip_unconditional(stack, moment, args, kwargs, half=0 if self.batch_order == "uc" else 1)
            output = self.forward(*args, **kwargs)
        self.prefix.stop()
        c, u = self._prediction(output), None
        if pair and not alone:
            first, second = c.chunk(2)
            u, c = (first, second) if self.batch_order == "uc" else (second, first)
            args, kwargs = self._conditional_rows(args, kwargs) if passes or auto else (args, kwargs)
        found = self.predictions
        found.c, found.u, found.delta, found.weak = c, u, None, {}
        if passes:
            found.recorded_bytes = self.prefix.recorded_bytes()
            found.weak = self._weak_predictions(passes, args, kwargs)
            found.delta = self._delta(passes, c)
            self.prefix.clear()
        if auto:
            assert self.weaker is not None
            found.weak["auto"] = self._prediction(self.weaker(*args, **kwargs))
            push = auto.scale * (c.float() - found.weak["auto"].float())
            found.delta = push if found.delta is None else found.delta + push
        self.answer = self._answer(output, alone, moment, self._grid(args, kwargs) if self.combinations else None)
        return self.answer

    # ---- what the pipeline gets

    def _answer(self, output: Any, alone: bool, moment: Moment | None, grid: tuple[int, int, int] | None) -> Any:
        """Return the output of a call that has conditional rows, as guidance would have it."""
        c, u, delta = self.predictions.c, self.predictions.u, self.predictions.delta
        assert c is not None
        new_c = c if delta is None else c.float() + delta
        new_u = None if u is None else self._unconditional(c, u, moment, grid)
        if self.layer_map.c_is_reference and self.batch_order in ("uc", "cu"):
            base: Tensor | _Whole = c if new_u is None else new_u
            if isinstance(base, _Whole):  # all of guidance goes into u: CFG from c itself is none
                delta = base.prediction - c.float() + (0 if delta is None else delta)
                base = c
            if delta is not None:
                pair = [self._off_unconditional(base, delta), c.float()]
                return self._replaced(output, pair if self.batch_order == "uc" else pair[::-1])
        if alone:
            return self._replaced(output, [new_c, new_c])
        if new_u is None:
            return output if delta is None else self._replaced(output, [new_c])
        if new_u is u and delta is None:
            return output
        if isinstance(new_u, _Whole):
            return self._replaced(output, [new_u.prediction if delta is None else new_u.prediction + delta] * 2)
        new_u = new_u if delta is None else new_u.float() + delta
        return self._replaced(output, [new_u, new_c] if self.batch_order == "uc" else [new_c, new_u])

    def _second_call(self, moment: Moment | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The unconditional one of two calls."""
        c, delta = self.predictions.c, self.predictions.delta
        assert c is not None
        if self.guidance.cfg_at(moment) == 1:
            self.predictions.u = None
            return self.answer
        with ExitStack() as stack:
            self._skip_unconditional(stack, moment, args, kwargs, half=None)
            output = self.forward(*args, **kwargs)
        u = self.predictions.u = self._prediction(output)
        new_u = self._unconditional(c, u, moment, self._grid(args, kwargs))
        if isinstance(new_u, _Whole):
            scale, told = self.guidance.cfg_scale, self._prediction(self.answer).float()
            whole = new_u.prediction if delta is None else new_u.prediction + delta
            return self._replaced(output, [(scale * told - whole) / (scale - 1)])
        if new_u is u and delta is None:
            return output
        return self._replaced(output, [new_u if delta is None else new_u.float() + delta])

    def _unconditional(
        self, c: Tensor, u: Tensor, moment: Moment | None, grid: tuple[int, int, int] | None
    ) -> Tensor | _Whole:
        """Say what the pipeline is to take for u, before the skip term: u itself where its own CFG is what is
        wanted."""
        scale = self.guidance.cfg_at(moment)
        if self.combinations and _acts(self.combinations[0].term.window, moment):
            assert moment is not None
            return _Whole(self._combined(c, u, scale, moment, grid))
        if scale == self.guidance.cfg_scale:
            return u
        return c.float() + (scale - 1) / (self.guidance.cfg_scale - 1) * (u.float() - c.float())

    def _combined(
        self, c: Tensor, u: Tensor, scale: float, moment: Moment, grid: tuple[int, int, int] | None
    ) -> Tensor:
        """Combine each output by itself, with the scale that the pipeline has for it, moved as the first one's is."""
        found = []
        for i, (one_c, one_u) in enumerate(zip(*(unpacked(x, self.outputs) for x in (c, u)), strict=True)):
            told, whole = self.told[i], self.guidance.cfg_scale
            found.append(
                self.combinations[i](
                    one_c.float(),
                    one_u.float(),
                    scale if told == whole else 1 + (scale - 1) / (whole - 1) * (told - 1),
                    moment,
                    grid=grid,
                    denoiser=self.denoiser,
                    run=lambda conditional, i=i: unpacked(self._rerun(conditional), self.outputs)[i],  # type: ignore[misc]
                )
            )
        return found[0] if len(found) == 1 else torch.cat([x.flatten(1) for x in found], dim=1)

    def _replaced(self, output: Any, rows: Sequence[Tensor]) -> Any:
        return with_rows(output, self.layer_map.outputs, torch.cat(list(rows)))

    def _prediction(self, output: Any) -> Tensor:
        self.outputs = samples_of(output, self.layer_map.outputs)
        return packed(self.outputs, self.layer_map.channels)

    def _off_unconditional(self, u: Tensor, delta: Tensor) -> Tensor:
        """u - delta / (g - 1), with the scale that the pipeline has for each output."""
        streams = zip(unpacked(delta, self.outputs), self.told, strict=True)
        parts = [part.flatten(1) / (scale - 1) for part, scale in streams]
        return u.float() - torch.cat(parts, dim=1).reshape(delta.shape)

    # ---- rows

    def _conditional(self, x: Tensor) -> Tensor:
        """Return the conditional half, as a copy: a view would keep the unconditional one alive."""
        half = x.shape[0] // 2
        return (x[half:] if self.batch_order == "uc" else x[:half]).clone()

    def _conditional_rows(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        rows = first_tensor(args, kwargs).shape[0]
        return map_rows(args, kwargs, rows, self._conditional, self.layer_map.unbatched)

    def _rerun(self, conditional: bool) -> Tensor:
        """Return the prediction of some of the rows once more, while somebody has perturbed the denoiser."""
        args, kwargs = self.inputs[conditional]
        if self.batch_order in ("uc", "cu"):
            rows = first_tensor(args, kwargs).shape[0] // 2
            half = slice(rows, None) if conditional == (self.batch_order == "uc") else slice(0, rows)
            args, kwargs = map_rows(args, kwargs, 2 * rows, lambda t: t[half], self.layer_map.unbatched)
        return self._prediction(self.forward(*args, **kwargs)).float()

    def _grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int, int] | None:
        return None if self.layer_map.grid is None else self.layer_map.grid(args, kwargs)

    # ---- weak passes

    def _delta(self, passes: Sequence[WeakPass], c: Tensor) -> Tensor:
        """Return the guidance term in float32, [conditional rows, ...] (Eq. 13; Eq. 20; Eq. 21 where orthogonal)."""
        parts = {weak.name: c.float() - self.predictions.weak[weak.name].float() for weak in passes}
        if self.guidance.orthogonal:
            for name in parts:
                if (spatial := name.replace("temporal", "spatial")) in parts and spatial != name:
                    parts[name] = equations.orthogonal(parts[name], parts[spatial])
        return sum((weak.scale * parts[weak.name] for weak in passes), torch.zeros_like(c, dtype=torch.float32))

    def _weak_predictions(
        self, passes: Sequence[WeakPass], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Tensor]:
        weak: dict[str, Tensor] = {}
        for group in [passes] if self.batched else [[weak] for weak in passes]:
            prediction = self._prediction(self._weak_pass(group, args, kwargs))
            for one, part in zip(group, prediction.chunk(len(group)), strict=True):
                weak[one.name] = part
        return weak

    def _weak_pass(self, group: Sequence[WeakPass], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        copies, grid = len(group), self._grid(args, kwargs)
        if copies > 1:
            rows = first_tensor(args, kwargs).shape[0]
            args, kwargs = map_rows(args, kwargs, rows, lambda t: torch.cat([t] * copies), self.layer_map.unbatched)
        with ExitStack() as stack:
            for path, forward in self.prefix.replays(group) if self.share_prefix else ():
                stack.enter_context(patched(self.denoiser.get_submodule(path), forward))
            for place, weak in enumerate(group):
                for kind, path in weak.blocks:
                    for module, forward in self._skip(weak.skip, kind, path, grid):
                        stack.enter_context(patched(module, on_part(forward, module.forward, place, copies)))
            return self.forward(*args, **kwargs)

    def _skip_unconditional(
        self,
        stack: ExitStack,
        moment: Moment | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        half: int | None,
    ) -> None:
        """Perturb the unconditional rows of the call that follows: one half of them, or all."""
        for skip, blocks in self.unconditional:
            if _acts(skip.window, moment):
                for kind, path in blocks:
                    for module, forward in self._skip(skip, kind, path, self._grid(args, kwargs)):
                        on_rows = forward if half is None else on_half(forward, module.forward, half)
                        stack.enter_context(patched(module, on_rows))

    def _skip(
        self, skip: Skip, kind: Kind, path: str, grid: tuple[int, int, int] | None
    ) -> Iterator[tuple[nn.Module, Forward]]:
        """The modules to patch and their replacement forwards."""
        block = self.denoiser.get_submodule(path)
        attentions = (self.layer_map.attention, *(() if SKIPS[skip.method].leaves_out else self.layer_map.also))
        for attention in attentions:
            yield skip_function(skip.method)(block, kind, Site(self.layer_map, attention, grid, skip.blur_sigma))

    def check_attention(self) -> None:
        """Refuse at once, not at the first step, an attention that cannot be skipped."""
        grid = None if self.layer_map.grid is None else (1, 1, 1)
        for skip, blocks in (*((weak.skip, weak.blocks) for weak in self.passes), *self.unconditional):
            for kind, path in blocks:
                list(self._skip(skip, kind, path, grid))


@dataclass(frozen=True)
class _Whole:
    """A guided prediction, in place of what the pipeline would make of c and u."""

    prediction: Tensor


def _acts(window: Window | None, moment: Moment | None) -> bool:
    return window is None or (moment is not None and moment in window)
