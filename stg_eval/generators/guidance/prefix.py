"""The shared prefix: what the strong pass computes before the first skipped block is recorded, not computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from stg_eval.generators.guidance import skips
from stg_eval.generators.guidance.layers import LayerMap, WeakPass
from stg_eval.generators.guidance.patching import Forward
from stg_eval.generators.guidance.tensors import map_tensors

_PASSED_ON = object()
"""In place of an output that nobody needs: the next module of the chain has it as its input."""


@dataclass
class Prefix:
    """Records a strong pass, and replays the part before a weak pass's first skipped block."""

    denoiser: nn.Module
    layer_map: LayerMap
    passes: Sequence[WeakPass]
    """All that may come."""
    expected: Sequence[WeakPass] = ()
    """Those for which the strong pass at work is recorded; none: nothing is."""
    rows: Callable[[Tensor], Tensor] = lambda x: x
    """The rows of a tensor that a weak pass has."""
    trace: list[tuple[str, Any]] = field(default_factory=list)
    """Modules that finished in the strong pass, in order, with those rows of their output; a chain keeps an output only
    where a weak pass starts."""
    cuts: dict[str, int] = field(default_factory=dict)
    """Name of a weak pass -> how much of the trace lies before its first skipped block."""

    def hooks(self) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Yield hooks on all modules that may be recorded or skipped."""
        for path in self._recordable():
            yield self.denoiser.get_submodule(path).register_forward_hook(self._recorder(path))
        for path in {path for weak in self.passes for _, path in weak.blocks}:
            yield self.denoiser.get_submodule(path).register_forward_pre_hook(self._reacher(path))

    def start(self, expected: Sequence[WeakPass], rows: Callable[[Tensor], Tensor]) -> None:
        """Record the strong pass that follows."""
        self.clear()
        self.expected, self.rows = expected, rows

    def stop(self) -> None:
        """The strong pass is done."""
        self.expected = ()

    def clear(self) -> None:
        """Let go of what was recorded."""
        self.trace.clear()
        self.cuts.clear()

    def recorded_bytes(self) -> int:
        """Return memory of what was recorded."""
        storages: dict[int, int] = {}

        def count(x: Tensor) -> Tensor:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        for _, output in self.trace:
            map_tensors(output, count)
        return sum(storages.values())

    def replays(self, group: Sequence[WeakPass]) -> list[tuple[str, Forward]]:
        """Return forwards that return the recording, once for each pass of the group as one batch, for everything
        before the group's first skipped block."""
        recorded: dict[str, list[Any]] = {}
        for path, output in self.trace[: min((self.cuts.get(weak.name, 0) for weak in group), default=0)]:
            recorded.setdefault(path, []).append(map_tensors(output, lambda t: torch.cat([t] * len(group))))
        passing = skips.residual(self.layer_map.streams)

        def replay(outputs: list[Any]) -> Forward:
            queue = iter(outputs)

            def forward(*args: Any, **kwargs: Any) -> Any:
                output = next(queue)
                return passing(*args, **kwargs) if output is _PASSED_ON else output

            return forward

        return [(path, replay(outputs)) for path, outputs in recorded.items()]

    def _recordable(self) -> list[str]:
        """Return modules to record: of those the map names, the outermost that hold no skipped block."""
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

    def _recorder(self, path: str) -> Callable[..., None]:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            if len(self.cuts) >= len(self.expected):  # nothing is to be recorded, or all that is needed is
                return
            if self.layer_map.prefix is None and self.trace and len(self.trace) not in self.cuts.values():
                self.trace[-1] = (self.trace[-1][0], _PASSED_ON)
            self.trace.append((path, map_tensors(output, self.rows)))

        return record

    def _reacher(self, path: str) -> Callable[..., None]:
        def reach(*_: Any) -> None:
            for weak in self.expected:
                if path in (block for _, block in weak.blocks):
                    self.cuts.setdefault(weak.name, len(self.trace))

        return reach


def _ancestors(path: str) -> set[str]:
    names = path.split(".")
    return {".".join(names[:i]) for i in range(1, len(names))}
